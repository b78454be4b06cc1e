// What a person does in mongosh, as a script; URI, WRONG_URI and the deployment come from the environment.
'use strict';

const deployment = process.env.DRIVER_DEPLOYMENT;
const shop = db.getSiblingDB('shop');

function failure(what) {
  try {
    what();
  } catch (error) {
    return error;
  }
  throw new Error('this should have been refused');
}

print(`version: ${version()}`);
shop.getCollectionNames().filter((name) => name.startsWith('smoke_')).forEach((name) => shop[name].drop());
shop.smoke_people.insertMany([{ _id: 1, name: 'Ada' }, { _id: 2, name: 'Grace' }, { _id: 3, name: 'Edsger' }]);
print('crud:', shop.smoke_people.updateMany({}, { $set: { seen: true } }).modifiedCount,
  shop.smoke_people.deleteOne({ _id: 3 }).deletedCount, shop.smoke_people.countDocuments());
print('duplicate:', failure(() => shop.smoke_people.insertOne({ _id: 1 })).code);
shop.smoke_numbers.insertMany(Array.from({ length: 500 }, (_, n) => ({ _id: n })));
print('cursors:', shop.smoke_numbers.find().batchSize(50).toArray().length);
print('aggregation:', JSON.stringify(shop.smoke_numbers.aggregate([{ $group: { _id: null, sum: { $sum: '$_id' } } }]).toArray()));
shop.smoke_people.createIndex({ name: 1 }, { unique: true });
print('indexes:', shop.smoke_people.getIndexes().map((index) => index.name).join(' '));
print('bulk:', shop.smoke_bulk.bulkWrite([{ insertOne: { document: { _id: 1 } } }, { deleteOne: { filter: { _id: 1 } } }]).deletedCount);
const session = db.getMongo().startSession();
session.getDatabase('shop').smoke_session.insertOne({ _id: 1 });
print('session:', session.getDatabase('shop').smoke_session.countDocuments());
if (deployment === 'set') {
  shop.smoke_accounts.insertOne({ _id: 'there' });
  session.startTransaction();
  session.getDatabase('shop').smoke_accounts.insertOne({ _id: 'kept' });
  session.commitTransaction();
  session.startTransaction();
  session.getDatabase('shop').smoke_accounts.insertOne({ _id: 'lost' });
  session.abortTransaction();
  print('transactions:', shop.smoke_accounts.find().sort({ _id: 1 }).toArray().map((account) => account._id).join(' '));
  const stream = shop.smoke_accounts.watch();
  shop.smoke_accounts.insertOne({ _id: 'seen' });
  print('change stream:', stream.next().operationType);
  stream.close();
}
session.endSession();
print('explain:', shop.smoke_people.find({ name: 'Ada' }).explain().ok);
const denied = failure(() => db.getSiblingDB('vault').secrets.findOne());
print('denied:', denied.code, denied.message.slice(0, 70));
print('currentOp:', db.getSiblingDB('admin').aggregate([{ $currentOp: {} }, { $match: { ns: 'vault.none' } }]).toArray().length);
const refused = failure(() => new Mongo(process.env.DRIVER_WRONG_URI).getDB('shop').smoke_people.findOne());
print('wrong password:', refused.code);
