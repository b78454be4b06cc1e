// What the Node driver can do beyond CRUD, 3.6 to the newest; smoke.js and smoke_mongoose.js run it. What makes a server
// fail once is told to the deployment itself, as its administrator (DRIVER_ADMIN_URI): the tested user may not.
'use strict';

const { env } = process;

function say(part, ...found) {
  console.log(`${part}: ${found.map((value) => (typeof value === 'string' ? value : JSON.stringify(value))).join(' ')}`);
}

// The code of the error (its name when it has none), or that there was none.
async function refusal(what) {
  try {
    await what();
  } catch (error) {
    return error.code || error.name;
  }
  return 'allowed';
}

function featuresOf({ MongoClient }, major, options) {
  async function connected(uri, more, what) {
    const client = new MongoClient(uri, { ...options, ...more });
    await client.connect();
    try {
      return await what(client);
    } finally {
      await client.close();
    }
  }

  // The server closes the connection on which the command comes, once.
  function failingOnce(command, what) {
    return connected(env.DRIVER_ADMIN_URI, {}, async (client) => {
      const failPoint = { configureFailPoint: 'failCommand', data: { failCommands: [command], closeConnection: true } };
      const before = await client.db('admin').command({ ...failPoint, mode: { times: 1 } });
      try {
        return await what();
      } finally {
        const after = await client.db('admin').command({ ...failPoint, mode: 'off' });
        // what came too late to fail has shown nothing
        if (after.count <= before.count) throw new Error(`${command} has not failed`);
      }
    });
  }

  // A cursor that waits at the end of a capped collection, and goes on when there is more.
  async function tailable(db) {
    await db.collection('smoke_capped').drop().catch(() => {});
    const capped = await db.createCollection('smoke_capped', { capped: true, size: 100_000 });
    await capped.insertOne({ _id: 1 });
    const cursor = capped.find({}, { tailable: true, awaitData: true, maxAwaitTimeMS: 5000 });
    const first = await cursor.next();
    const writer = new Promise((resolve) => setTimeout(() => resolve(capped.insertOne({ _id: 2 })), 300));
    const second = await cursor.next();
    await writer;
    await cursor.close();
    say('tailable', first._id, second._id);
  }

  // Over a relay that says whether messages were compressed.
  async function compression() {
    // 3.6 reads compressors of its options alone
    const more = major < 4 ? { compression: { compressors: ['zlib'] } } : {};
    say('compression', await connected(env.DRIVER_OVERHEARD_URI, more, async (client) => (
      await client.db('shop').collection('smoke_capped').find().toArray()).length));
  }

  // Strict: what is in the API works, what is not is refused (323), and so is what the user may not (13).
  async function stableAPI() {
    const serverApi = { version: '1', strict: true, deprecationErrors: true };
    await connected(env.DRIVER_URI, { serverApi }, async (client) => {
      const found = await client.db('shop').collection('smoke_capped').findOne({ _id: 1 });
      say('stable API', found._id, await refusal(() => client.db('shop').collection('smoke_capped').distinct('_id')),
        await refusal(() => client.db('vault').collection('secrets').findOne({})));
    });
  }

  // A read and a write are tried again when the connection is lost; without retryable writes the write is lost.
  async function retries(db) {
    const kept = db.collection('smoke_retries');
    await kept.drop().catch(() => {});
    await failingOnce('insert', () => kept.insertOne({ _id: 1 }));
    const found = await failingOnce('find', () => kept.findOne({ _id: 1 }));
    const lost = await failingOnce('insert', () => connected(env.DRIVER_URI, { retryWrites: false }, (client) => (
      refusal(() => client.db('shop').collection('smoke_retries').insertOne({ _id: 2 })))));
    say('retries', await kept.countDocuments({}), found._id, lost);
  }

  // Called again when a write was lost, committed again when the commit was.
  async function withTransaction(client, db) {
    const moved = db.collection('smoke_moved');
    await moved.drop().catch(() => {});
    await db.createCollection('smoke_moved');
    const session = client.startSession();
    let calls = 0;
    const move = async () => {
      calls += 1;
      await moved.insertOne({ _id: calls }, { session });
    };
    await failingOnce('insert', () => session.withTransaction(move));
    const tried = calls;
    await failingOnce('commitTransaction', () => session.withTransaction(move));
    await session.endSession();
    say('with transaction', tried, calls, (await moved.find().sort({ _id: 1 }).toArray()).map((one) => one._id));
  }

  // What the user may not do in one is refused with 13, as outside; with the rest of it both ends do the same.
  async function refusedInATransaction(client, db) {
    const session = client.startSession();
    const secrets = client.db('vault').collection('secrets');
    session.startTransaction();
    await db.collection('smoke_moved').insertOne({ _id: 'before' }, { session });
    const read = await refusal(() => secrets.findOne({}, { session }));
    const write = await refusal(() => secrets.insertOne({}, { session }));
    const end = await refusal(() => session.commitTransaction());
    await session.endSession();
    say('denied in a transaction', read, write, end, await db.collection('smoke_moved').countDocuments({ _id: 'before' }));
  }

  // A stream goes on where another stopped, and by itself when its connection is lost; of another database there is none.
  async function resumed(client, db) {
    const watched = db.collection('smoke_resumed');
    await watched.insertOne({});
    let stream = watched.watch([], { maxAwaitTimeMS: 200 });
    let next = stream.next();
    const writer = setInterval(() => watched.insertOne({ at: Date.now() }).catch(() => {}), 50);
    const token = (await next)._id;
    clearInterval(writer);
    await stream.close();
    await watched.insertOne({ _id: 'second' });
    stream = watched.watch([], { resumeAfter: token, maxAwaitTimeMS: 500 });
    const until = async (id) => {
      for (;;) if ((await stream.next()).documentKey._id === id) return id;
    };
    const second = await until('second');
    const third = await failingOnce('getMore', async () => {
      next = until('third');
      await watched.insertOne({ _id: 'third' });
      return next;
    });
    await stream.close();
    const strange = client.db('vault').collection('secrets').watch([], { maxAwaitTimeMS: 10 });
    const denied = await refusal(() => strange.next());
    await strange.close();
    say('resumed', second, third, denied);
  }

  // A session reads its own majority write, wherever it reads.
  async function causal(client, db) {
    await db.collection('smoke_causal').drop().catch(() => {});
    const strong = db.collection('smoke_causal', { readConcern: { level: 'majority' }, readPreference: 'secondaryPreferred',
      ...(major < 4 ? { w: 'majority' } : { writeConcern: { w: 'majority' } }) });
    const session = client.startSession({ causalConsistency: true });
    await strong.insertOne({ _id: 1 }, { session });
    const found = await strong.findOne({}, { session });
    say('causal', found._id, Boolean(session.operationTime), Boolean(session.clusterTime));
    await session.endSession();
  }

  // A snapshot session sees one moment.
  async function snapshot(client, db) {
    const strong = db.collection('smoke_snapshot', { writeConcern: { w: 'majority' } });
    await strong.deleteMany({});
    await strong.insertMany(Array.from({ length: 10 }, (_, n) => ({ _id: n })));
    const session = client.startSession({ snapshot: true });
    const before = await strong.countDocuments({}, { session });
    await strong.deleteMany({});
    const again = (await strong.find({}, { session, batchSize: 3 }).toArray()).length;
    const denied = await refusal(() => client.db('vault').collection('secrets').findOne({}, { session }));
    await session.endSession();
    say('snapshot', before, again, await strong.countDocuments({}), denied);
  }

  return async function features(client, db, deployment) {
    await tailable(db);
    await compression();
    if (major >= 4) await stableAPI();
    if (deployment !== 'set') return;
    await retries(db);
    await withTransaction(client, db);
    await refusedInATransaction(client, db);
    await resumed(client, db);
    await causal(client, db);
    if (major >= 4 && !env.DRIVER_LACKS.includes('snapshot')) await snapshot(client, db);
  };
}

module.exports = { featuresOf, refusal, say };
