// Logs in with the Node driver and tries one read. Usage: node node_login.js URI DATABASE COLLECTION
// Prints one line of JSON: who is logged in with which roles and how many documents there are, or the error's code.
'use strict';

const { MongoClient } = require('mongodb');

const [uri, databaseName, collectionName] = process.argv.slice(2);

async function attempt(what) {
  try {
    return await what();
  } catch (error) {
    return { code: error.code ?? null, name: error.name };
  }
}

async function main() {
  const client = new MongoClient(uri, { serverSelectionTimeoutMS: 10000 });
  try {
    const login = await attempt(async () => {
      const { authInfo } = await client.db('admin').command({ connectionStatus: 1 });
      return { users: authInfo.authenticatedUsers, roles: authInfo.authenticatedUserRoles };
    });
    const read = login.users
      ? await attempt(() => client.db(databaseName).collection(collectionName).countDocuments())
      : null;
    return { login, read };
  } finally {
    await client.close();
  }
}

main().then((result) => console.log(JSON.stringify(result)));
