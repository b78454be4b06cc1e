// What an application does with Mongoose. Usage: node smoke_mongoose.js URI WRONG_URI set|standalone
'use strict';

const mongoose = require('mongoose');
const { featuresOf, refusal } = require('./features.js');

const [uri, wrongUri, deployment] = process.argv.slice(2);
const options = { serverSelectionTimeoutMS: 10_000 };
const Person = mongoose.model('Person', new mongoose.Schema({
  name: { type: String, unique: true },
  born: Number,
}, { collection: 'smoke_people', autoIndex: false, autoCreate: false }));

async function failure(what) {
  try {
    await what();
  } catch (error) {
    return error;
  }
  throw new Error('this should have been refused');
}

async function main() {
  console.log(`version: ${mongoose.version}`);
  await mongoose.connect(uri, { ...options, dbName: 'shop' });
  for (const { name } of await mongoose.connection.db.listCollections({ name: /^smoke_/ }, { nameOnly: true }).toArray()) {
    await mongoose.connection.db.collection(name).drop();
  }
  await Person.createCollection();
  await Person.syncIndexes();
  await Person.insertMany(Array.from({ length: 300 }, (_, n) => ({ name: `p${n}`, born: n })));
  console.log('duplicate:', (await failure(() => Person.create({ name: 'p1' }))).code);
  const updated = await Person.updateMany({ born: { $lt: 10 } }, { $inc: { born: 1 } });
  console.log('crud:', updated.modifiedCount, (await Person.findOne({ name: 'p1' })).born);
  let seen = 0;
  for await (const person of Person.find().batchSize(20)) seen += person ? 1 : 0;
  console.log('cursors:', seen);
  console.log('aggregation:', JSON.stringify(await Person.aggregate([{ $group: { _id: null, sum: { $sum: '$born' } } }])));
  console.log('indexes:', Object.keys(await Person.collection.indexInformation()).sort().join(' '));
  const bulk = await Person.bulkWrite([{ deleteOne: { filter: { name: 'p2' } } }, { insertOne: { document: { name: 'new' } } }]);
  console.log('bulk:', bulk.deletedCount, bulk.insertedCount);
  if (deployment === 'set') {
    await mongoose.connection.transaction(async (session) => {
      await Person.create([{ name: 'kept' }], { session });
    });
    await failure(() => mongoose.connection.transaction(async (session) => {
      await Person.create([{ name: 'lost' }], { session });
      throw new Error('undo');
    }));
    console.log('transactions:', await Person.countDocuments());
    const stream = Person.watch([], { maxAwaitTimeMS: 200 });
    const first = stream.next();
    let written = 0;
    const writer = setInterval(() => Person.create({ name: `w${(written += 1)}` }).catch(() => {}), 50);
    console.log('change stream:', (await first).operationType);
    clearInterval(writer);
    await stream.close();
  }
  const denied = await failure(() => mongoose.connection.useDb('vault').collection('secrets').findOne({}));
  console.log('denied:', denied.code, denied.message.slice(0, 70));
  const Secret = mongoose.connection.useDb('vault').model('Secret', new mongoose.Schema({}, { autoIndex: false, autoCreate: false }));
  console.log('denied write:', await refusal(() => Secret.create({})));
  await featuresOf(mongoose.mongo, 7, options)(mongoose.connection.getClient(), mongoose.connection.db, deployment);
  await mongoose.disconnect();
  console.log('wrong password:', (await failure(() => mongoose.connect(wrongUri, options))).code);
  await mongoose.disconnect();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
