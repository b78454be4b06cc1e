// What an application does with the Node driver, 3.6 to the newest. Usage: node smoke.js URI WRONG_URI set|standalone
// NODE_PATH says which driver. Prints a line for each part: its name, a colon, what was found.
'use strict';

const mongodb = require('mongodb');
const { version } = require('mongodb/package.json');
const { featuresOf, refusal, say } = require('./features.js');

const { MongoClient } = mongodb;

const [uri, wrongUri, deployment] = process.argv.slice(2);
const major = Number(version.split('.')[0]);
const options = { serverSelectionTimeoutMS: 10_000, ...(major < 4 ? { useUnifiedTopology: true } : {}) };

async function failure(what) {
  try {
    await what();
  } catch (error) {
    return error;
  }
  throw new Error('this should have been refused');
}

async function documents(client, db) {
  const people = db.collection('smoke_people');
  await people.insertMany([{ _id: 1, name: 'Ada' }, { _id: 2, name: 'Grace' }, { _id: 3, name: 'Edsger' }]);
  const updated = await people.updateMany({ _id: { $lt: 3 } }, { $set: { seen: true } });
  const deleted = await people.deleteOne({ _id: 3 });
  say('crud', updated.modifiedCount, deleted.deletedCount, await people.countDocuments(),
    await people.estimatedDocumentCount(), (await people.distinct('name')).sort());
  say('duplicate', (await failure(() => people.insertOne({ _id: 1 }))).code);

  const numbers = db.collection('smoke_numbers');
  await numbers.insertMany(Array.from({ length: 500 }, (_, n) => ({ _id: n, pad: 'x'.repeat(100) })));
  say('cursors', (await numbers.find().sort({ _id: 1 }).batchSize(50).toArray()).length);
  const left = numbers.find().batchSize(5);
  await left.next();
  await left.close();

  const totals = await numbers.aggregate([{ $group: { _id: { $mod: ['$_id', 2] }, sum: { $sum: '$_id' } } },
    { $sort: { _id: 1 } }]).toArray();
  say('aggregation', totals);
  await people.createIndex({ name: 1 }, { unique: true });
  say('indexes', (await people.listIndexes().toArray()).map((index) => index.name));
  const bulk = await db.collection('smoke_bulk').bulkWrite([
    { insertOne: { document: { _id: 1, n: 1 } } },
    { updateOne: { filter: { _id: 2 }, update: { $set: { n: 2 } }, upsert: true } },
    { deleteOne: { filter: { _id: 1 } } },
  ]);
  say('bulk', bulk.insertedCount, bulk.upsertedCount, bulk.deletedCount);
  const session = client.startSession();
  await db.collection('smoke_session').insertOne({ _id: 1 }, { session });
  say('session', await db.collection('smoke_session').countDocuments({}, { session }));
  await session.endSession();
}

async function ofASet(client, db) {
  const accounts = db.collection('smoke_accounts');
  await accounts.insertMany([{ _id: 'a', balance: 10 }, { _id: 'b', balance: 0 }]);
  const session = client.startSession();
  await session.withTransaction(async () => {
    await accounts.updateOne({ _id: 'a' }, { $inc: { balance: -4 } }, { session });
    await accounts.updateOne({ _id: 'b' }, { $inc: { balance: 4 } }, { session });
  });
  session.startTransaction();
  await accounts.deleteMany({}, { session });
  await session.abortTransaction();
  await session.endSession();
  say('transactions', (await accounts.find().sort({ _id: 1 }).toArray()).map((account) => account.balance));

  const watched = db.collection('smoke_watched');
  await watched.insertOne({ _id: 0 });
  const stream = watched.watch([], { maxAwaitTimeMS: 200 });
  const first = stream.next();
  // A stream sees what happens after it was opened, so write until it has seen something.
  let written = 0;
  const writer = setInterval(() => watched.insertOne({ _id: (written += 1) }).catch(() => {}), 50);
  say('change stream', (await first).operationType);
  clearInterval(writer);
  await stream.close();
}

async function main() {
  say('version', version);
  const client = new MongoClient(uri, options);
  await client.connect();
  const db = client.db('shop');
  for (const { name } of await db.listCollections({ name: /^smoke_/ }, { nameOnly: true }).toArray()) {
    await db.collection(name).drop();
  }
  await documents(client, db);
  if (deployment === 'set') await ofASet(client, db);
  await featuresOf(mongodb, major, options)(client, db, deployment);
  const denied = await failure(() => client.db('vault').collection('secrets').findOne({}));
  say('denied', denied.code, denied.message.slice(0, 70));
  say('denied write', await refusal(() => client.db('vault').collection('secrets').insertOne({})));
  await client.close();
  const stranger = new MongoClient(wrongUri, options);
  say('wrong password', (await failure(async () => {
    await stranger.connect();
    await stranger.db('shop').collection('smoke_people').findOne({});
  })).code);
  await stranger.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
