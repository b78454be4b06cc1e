// Two transactions that lose their connections at the same moment. Usage: node node_two_lost.js URI ADMIN_URI DATABASE
// The database is dropped first. Prints one line of JSON: whether the driver gives each the label
// TransientTransactionError, the one that has it first.
'use strict';

const { MongoClient } = require('mongodb');

const [uri, adminUri, databaseName] = process.argv.slice(2);

async function main() {
  const client = new MongoClient(uri, { serverSelectionTimeoutMS: 10_000 });
  const admin = new MongoClient(adminUri, { serverSelectionTimeoutMS: 10_000 });
  try {
    const things = client.db(databaseName).collection('things');
    await client.db(databaseName).dropDatabase();
    await things.insertOne({ _id: 'there' });
    const sessions = [client.startSession(), client.startSession()];
    sessions.forEach((session) => session.startTransaction());
    // each has a connection from here on, and they are different ones
    await Promise.all(sessions.map((session) => things.findOne({}, { session })));
    await admin.db('admin').command({
      configureFailPoint: 'failCommand',
      mode: { times: 2 },
      data: { failCommands: ['insert'], closeConnection: true },
    });
    const ended = await Promise.allSettled(sessions.map((session) => things.insertOne({}, { session })));
    await Promise.all(sessions.map((session) => session.endSession()));
    return ended.map(({ reason }) => reason.hasErrorLabel('TransientTransactionError')).sort().reverse();
  } finally {
    await admin.db('admin').command({ configureFailPoint: 'failCommand', mode: 'off' });
    await client.close();
    await admin.close();
  }
}

main().then((labelled) => console.log(JSON.stringify({ labelled }))).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
