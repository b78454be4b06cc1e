// MongoDB's test identity provider over https, on loopback. Usage: node oidc_provider.js SETTINGS, which is JSON:
// {port, certificateKeyFile, expires_in, payload}. Prints its issuer when it listens, and runs until it is ended.
'use strict';

const { readFileSync } = require('node:fs');
const https = require('node:https');
const { OIDCMockProvider } = require('@mongodb-js/oidc-mock-provider');

const { port, certificateKeyFile, expires_in, payload } = JSON.parse(process.argv[2]);
const pem = readFileSync(certificateKeyFile);

OIDCMockProvider.create({
  port,
  hostname: 'localhost',
  createHTTPServer: (listener) => https.createServer({ key: pem, cert: pem }, listener),
  getTokenPayload: () => ({ expires_in, payload }),
}).then((provider) => console.log(provider.issuer));
