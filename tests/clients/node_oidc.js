// The Node driver with MONGODB-OIDC. Usage: node node_oidc.js URI CA_FILE SHORT_LIVED_TOKEN TOKEN
// A program's callback gives the two tokens in turn, the first of which expires under way; then a person's callback the
// second one. Prints one line of JSON: what was found.
'use strict';

const { MongoClient } = require('mongodb');

const [uri, tlsCAFile, first, second] = process.argv.slice(2);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function program(found) {
  const tokens = [first, second];
  const OIDC_CALLBACK = async () => {
    found.callbacks += 1;
    return { accessToken: tokens.length > 1 ? tokens.shift() : tokens[0] };
  };
  const client = new MongoClient(uri, { tlsCAFile, maxPoolSize: 1, authMechanismProperties: { OIDC_CALLBACK } });
  try {
    const numbers = client.db('shop').collection('numbers');
    found.count = await numbers.countDocuments();
    const { exp } = JSON.parse(Buffer.from(first.split('.')[1], 'base64url'));
    await sleep(exp * 1000 - Date.now() + 100);
    found.countAfterExpiry = await numbers.countDocuments();
  } finally {
    await client.close();
  }
}

async function person(found) {
  const OIDC_HUMAN_CALLBACK = async ({ idpInfo }) => {
    found.people.push(idpInfo);
    return { accessToken: second };
  };
  const authMechanismProperties = { OIDC_HUMAN_CALLBACK, ALLOWED_HOSTS: ['localhost'] };
  const client = new MongoClient(uri, { tlsCAFile, authMechanismProperties });
  try {
    const status = await client.db('admin').command({ connectionStatus: 1 });
    found.user = status.authInfo.authenticatedUsers[0].user;
  } finally {
    await client.close();
  }
}

(async () => {
  const found = { callbacks: 0, people: [] };
  await program(found);
  await person(found);
  console.log(JSON.stringify(found));
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
