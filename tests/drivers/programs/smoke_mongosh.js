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

// The code of the error (its name when it has none), or that there was none.
function refusal(what) {
  try {
    what();
  } catch (error) {
    return error.code || error.name;
  }
  return 'allowed';
}

// The server closes the connection on which the command comes, once.
function failingOnce(command, what) {
  const admin = new Mongo(process.env.DRIVER_ADMIN_URI).getDB('admin');
  const data = { failCommands: [command], closeConnection: true };
  const before = admin.runCommand({ configureFailPoint: 'failCommand', mode: { times: 1 }, data }).count;
  const found = what();
  // what came too late to fail has shown nothing
  if (admin.runCommand({ configureFailPoint: 'failCommand', mode: 'off' }).count <= before) throw new Error(`${command} has not failed`);
  return found;
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
  let stream = shop.smoke_accounts.watch();
  shop.smoke_accounts.insertOne({ _id: 'seen' });
  const seen = stream.next();
  print('change stream:', seen.operationType);
  stream.close();
  shop.smoke_accounts.insertOne({ _id: 'second' });
  stream = shop.smoke_accounts.watch([], { resumeAfter: seen._id });
  const second = stream.next().documentKey._id;
  const third = failingOnce('getMore', () => {
    shop.smoke_accounts.insertOne({ _id: 'third' });
    return stream.next().documentKey._id;
  });
  stream.close();
  print('resumed:', second, third, refusal(() => db.getSiblingDB('vault').secrets.watch().tryNext()));

  failingOnce('insert', () => shop.smoke_retries.insertOne({ _id: 1 }));
  const found = failingOnce('find', () => shop.smoke_retries.findOne({ _id: 1 }))._id;
  const once = new Mongo(process.env.DRIVER_URI.replace('?', '?retryWrites=false&')).getDB('shop');
  const lost = failingOnce('insert', () => refusal(() => once.smoke_retries.insertOne({ _id: 2 })));
  print('retries:', shop.smoke_retries.countDocuments(), found, lost);

  let calls = 0;
  const inSession = session.getDatabase('shop').smoke_retries;
  failingOnce('insert', () => session.withTransaction(() => inSession.insertOne({ _id: `t${(calls += 1)}` })));
  const tried = calls;
  failingOnce('commitTransaction', () => session.withTransaction(() => inSession.insertOne({ _id: `t${(calls += 1)}` })));
  print('with transaction:', tried, calls, shop.smoke_retries.countDocuments({ _id: /^t/ }));

  session.startTransaction();
  inSession.insertOne({ _id: 'before' });
  const secrets = session.getDatabase('vault').secrets;
  const refusals = [refusal(() => secrets.findOne()), refusal(() => secrets.insertOne({}))];
  print('denied in a transaction:', ...refusals, refusal(() => session.commitTransaction()),
    shop.smoke_retries.countDocuments({ _id: 'before' }));

  const causal = db.getMongo().startSession({ causalConsistency: true, readPreference: { mode: 'secondaryPreferred' } });
  const strong = causal.getDatabase('shop').smoke_causal;
  strong.insertOne({ _id: 1 }, { writeConcern: { w: 'majority' } });
  print('causal:', strong.find({}).readConcern('majority').toArray().length);
  causal.endSession();

  shop.smoke_snapshot.insertMany(Array.from({ length: 10 }, (_, n) => ({ _id: n })), { writeConcern: { w: 'majority' } });
  const snapshot = db.getMongo().startSession({ snapshot: true, causalConsistency: false });
  const before = snapshot.getDatabase('shop').smoke_snapshot.countDocuments();
  shop.smoke_snapshot.deleteMany({}, { writeConcern: { w: 'majority' } });
  print('snapshot:', before, snapshot.getDatabase('shop').smoke_snapshot.find().batchSize(3).toArray().length,
    shop.smoke_snapshot.countDocuments(), refusal(() => snapshot.getDatabase('vault').secrets.findOne()));
  snapshot.endSession();
}
session.endSession();
shop.createCollection('smoke_capped', { capped: true, size: 100000 });
shop.smoke_capped.insertOne({ _id: 1 });
const tail = shop.smoke_capped.find().tailable({ awaitData: true }).maxAwaitTimeMS(500);
const one = tail.next()._id;
shop.smoke_capped.insertOne({ _id: 2 });
print('tailable:', one, tail.next()._id);
tail.close();
print('compression:', new Mongo(process.env.DRIVER_OVERHEARD_URI).getDB('shop').smoke_capped.find().toArray().length);
const strict = new Mongo(process.env.DRIVER_URI, undefined, { api: { version: '1', strict: true, deprecationErrors: true } });
print('stable API:', strict.getDB('shop').smoke_capped.findOne()._id,
  refusal(() => strict.getDB('shop').smoke_capped.distinct('_id')), refusal(() => strict.getDB('vault').secrets.findOne()));
print('explain:', shop.smoke_people.find({ name: 'Ada' }).explain().ok);
const denied = failure(() => db.getSiblingDB('vault').secrets.findOne());
print('denied:', denied.code, denied.message.slice(0, 70));
print('denied write:', refusal(() => db.getSiblingDB('vault').secrets.insertOne({})));
print('currentOp:', db.getSiblingDB('admin').aggregate([{ $currentOp: {} }, { $match: { ns: 'vault.none' } }]).toArray().length);
const refused = failure(() => new Mongo(process.env.DRIVER_WRONG_URI).getDB('shop').smoke_people.findOne());
print('wrong password:', refused.code);
