// What a person does in mongosh, as a script. Usage: mongosh URI/DATABASE --file mongosh_smoke.js
// The database of the URI is dropped at the end. Prints one line of JSON; mongosh exits 1 on an uncaught error.
'use strict';

const result = {};

db.fruit.insertMany([{ _id: 1, name: 'apple', price: 3 }, { _id: 2, name: 'pear', price: 4 }]);
db.fruit.updateOne({ _id: 1 }, { $inc: { price: 1 } });
result.prices = db.fruit.find().sort({ _id: 1 }).toArray().map((fruit) => fruit.price);
result.count = db.fruit.countDocuments({ price: { $gte: 4 } });
result.total = db.fruit.aggregate([{ $group: { _id: null, total: { $sum: '$price' } } }]).toArray()[0].total;

db.many.insertMany(Array.from({ length: 500 }, (_, n) => ({ _id: n })));
result.batches = db.many.find().batchSize(20).toArray().length;

db.fruit.createIndex({ name: 1 }, { unique: true });
result.indexes = db.fruit.getIndexes().map((index) => index.name);
try {
  db.fruit.insertOne({ name: 'apple' });
} catch (error) {
  result.duplicate = error.code;
}

result.collections = db.getCollectionNames().sort();
result.databaseIsListed = db.adminCommand({ listDatabases: 1, nameOnly: true }).databases
  .some((database) => database.name === db.getName());
result.user = db.runCommand({ connectionStatus: 1 }).authInfo.authenticatedUsers.map((user) => user.user);
result.explained = db.fruit.find({ name: 'pear' }).explain().ok;
result.dropped = db.dropDatabase().ok;

print(JSON.stringify(result));
