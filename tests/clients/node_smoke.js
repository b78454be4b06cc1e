// What an application does with the Node driver, end to end. Usage: node node_smoke.js URI DATABASE
// The database is dropped at the end. Prints one line of JSON: what each part found; exits 1 on the first surprise.
'use strict';

const assert = require('node:assert/strict');
const { GridFSBucket, MongoClient } = require('mongodb');

const [uri, databaseName] = process.argv.slice(2);

async function crud(db) {
  const people = db.collection('people');
  await people.insertOne({ _id: 1, name: 'Ada', born: 1815 });
  await people.insertMany([{ _id: 2, name: 'Grace', born: 1906 }, { _id: 3, name: 'Edsger', born: 1930 }]);
  await assert.rejects(people.insertOne({ _id: 1 }), { code: 11000 });
  await people.updateOne({ _id: 1 }, { $set: { field: 'mathematics' } });
  const replaced = await people.findOneAndUpdate({ _id: 2 }, { $inc: { born: 0 } }, { returnDocument: 'after' });
  assert.equal(replaced.name, 'Grace');
  await people.deleteOne({ _id: 3 });
  assert.equal(await people.countDocuments(), 2);
  assert.deepEqual((await people.distinct('name')).sort(), ['Ada', 'Grace']);
  return people.estimatedDocumentCount();
}

async function cursors(db) {
  const numbers = db.collection('numbers');
  await numbers.insertMany(Array.from({ length: 1000 }, (_, n) => ({ _id: n, pad: 'x'.repeat(100) })));
  let seen = 0;
  for await (const document of numbers.find().sort({ _id: 1 }).batchSize(50)) {
    assert.equal(document._id, seen);
    seen += 1;
  }
  const abandoned = numbers.find().batchSize(10); // closing it early sends killCursors
  await abandoned.next();
  await abandoned.close();
  return seen;
}

async function aggregation(db) {
  await db.collection('orders').insertMany([
    { _id: 1, person: 1, total: 10 },
    { _id: 2, person: 1, total: 5 },
    { _id: 3, person: 2, total: 7 },
  ]);
  const pipeline = [
    { $lookup: { from: 'people', localField: 'person', foreignField: '_id', as: 'who' } },
    { $unwind: '$who' },
    { $group: { _id: '$who.name', total: { $sum: '$total' } } },
    { $sort: { _id: 1 } },
  ];
  const totals = await db.collection('orders').aggregate(pipeline).toArray();
  assert.deepEqual(totals, [{ _id: 'Ada', total: 15 }, { _id: 'Grace', total: 7 }]);
  await db.collection('orders').aggregate([...pipeline, { $out: 'totals' }]).toArray();
  return db.collection('totals').countDocuments();
}

async function bulkWrite(db) {
  const result = await db.collection('bulk').bulkWrite([
    { insertOne: { document: { _id: 1, n: 1 } } },
    { updateOne: { filter: { _id: 2 }, update: { $set: { n: 2 } }, upsert: true } },
    { replaceOne: { filter: { _id: 1 }, replacement: { n: 3 } } },
    { deleteOne: { filter: { _id: 2 } } },
  ]);
  return [result.insertedCount, result.upsertedCount, result.modifiedCount, result.deletedCount];
}

async function session(client, db) {
  return client.withSession(async (own) => {
    await db.collection('sessions').insertOne({ _id: 1 }, { session: own });
    return db.collection('sessions').countDocuments({}, { session: own });
  });
}

async function transactions(client, db) {
  const accounts = db.collection('accounts');
  await accounts.insertMany([{ _id: 'a', balance: 10 }, { _id: 'b', balance: 0 }]);
  await client.withSession((own) => own.withTransaction(async () => {
    await accounts.updateOne({ _id: 'a' }, { $inc: { balance: -4 } }, { session: own });
    await accounts.updateOne({ _id: 'b' }, { $inc: { balance: 4 } }, { session: own });
  }));
  await client.withSession(async (own) => {
    own.startTransaction();
    await accounts.deleteMany({}, { session: own });
    await own.abortTransaction();
  });
  return (await accounts.find().sort({ _id: 1 }).toArray()).map((account) => account.balance);
}

async function changeStream(db) {
  const watched = db.collection('watched');
  await watched.insertOne({ _id: 0 }); // the collection must exist before it is watched by some users
  const stream = watched.watch([], { maxAwaitTimeMS: 200 });
  const first = stream.next();
  // A stream sees what happens after it was opened, so write until it has seen something.
  let written = 0;
  const writer = setInterval(() => {
    written += 1;
    watched.insertOne({ _id: written }).catch(() => {});
  }, 50);
  const event = await first;
  clearInterval(writer);
  await stream.close();
  return event.operationType;
}

async function gridFS(db) {
  const bucket = new GridFSBucket(db, { chunkSizeBytes: 1024 });
  const content = Buffer.alloc(10_000, 'mongoguard');
  const upload = bucket.openUploadStream('file.bin');
  await new Promise((resolve, reject) => upload.on('finish', resolve).on('error', reject).end(content));
  const parts = [];
  for await (const part of bucket.openDownloadStream(upload.id)) parts.push(part);
  assert.ok(Buffer.concat(parts).equals(content));
  return db.collection('fs.chunks').countDocuments();
}

async function indexes(db) {
  const people = db.collection('people');
  await people.createIndex({ name: 1 }, { unique: true });
  await assert.rejects(people.insertOne({ _id: 4, name: 'Ada' }), { code: 11000 });
  const names = (await people.listIndexes().toArray()).map((index) => index.name);
  await people.dropIndex('name_1');
  return names;
}

async function unacknowledged(db) {
  const fast = db.collection('fast', { writeConcern: { w: 0 } });
  assert.equal((await fast.insertOne({ _id: 1 })).acknowledged, false);
  const acknowledged = db.collection('fast', { writeConcern: { w: 1 } });
  for (let tries = 0; tries < 200; tries += 1) {
    if (await acknowledged.countDocuments()) return true;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  return false;
}

async function main() {
  const client = new MongoClient(uri, { serverSelectionTimeoutMS: 10_000 });
  const db = client.db(databaseName);
  const result = {};
  try {
    const hello = await db.command({ hello: 1 });
    const isSet = Boolean(hello.setName) || hello.msg === 'isdbgrid';
    result.crud = await crud(db);
    result.cursors = await cursors(db);
    result.aggregation = await aggregation(db);
    result.bulkWrite = await bulkWrite(db);
    result.session = await session(client, db);
    result.indexes = await indexes(db);
    result.gridFS = await gridFS(db);
    result.unacknowledged = await unacknowledged(db);
    if (isSet) {
      result.transactions = await transactions(client, db);
      result.changeStream = await changeStream(db);
    }
    result.collections = (await db.listCollections({}, { nameOnly: true }).toArray()).length;
    await db.dropDatabase();
  } finally {
    await client.close();
  }
  console.log(JSON.stringify(result));
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
