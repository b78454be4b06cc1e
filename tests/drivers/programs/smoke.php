<?php
// What an application does with PHP's driver (the extension). Usage: php smoke.php URI WRONG_URI set|standalone

use MongoDB\Driver\{BulkWrite, Command, Manager, Query, ReadConcern, ReadPreference, ServerApi, WriteConcern};
use MongoDB\Driver\Exception\{AuthenticationException, BulkWriteException, Exception};

[, $uri, $wrong_uri, $deployment] = $argv;
$options = ['serverSelectionTimeoutMS' => 10000];

function say(string $part, ...$found): void {
    echo $part, ': ', implode(' ', array_map(fn ($v) => is_string($v) ? $v : json_encode($v), $found)), "\n";
}

// The code of the error, or that there was none.
function refusal(callable $what): string {
    try {
        $what();
    } catch (BulkWriteException $error) {
        $cause = $error->getPrevious() ?? $error;
        return (string) $cause->getCode();
    } catch (Exception $error) {
        return (string) $error->getCode();
    }
    return 'allowed';
}

// The server closes the connection on which the command comes, once.
function failing_once(string $command, callable $what) {
    $admin = new Manager(getenv('DRIVER_ADMIN_URI'), ['appname' => 'administrator']);
    $fail = ['configureFailPoint' => 'failCommand', 'data' => ['failCommands' => [$command], 'closeConnection' => true]];
    $count = fn ($mode) => $admin->executeCommand('admin', new Command($fail + ['mode' => $mode]))->toArray()[0]->count;
    $before = $count(['times' => 1]);
    $found = $what();
    // what came too late to fail has shown nothing
    if ($count('off') <= $before) throw new RuntimeException("$command has not failed");
    return $found;
}

function watched(Manager $manager, string $db, string $collection, array $stage = []) {
    $command = new Command(['aggregate' => $collection, 'cursor' => new stdClass(),
        'pipeline' => [['$changeStream' => (object) $stage]]]);
    $stream = $manager->executeReadCommand($db, $command, []);
    $stream->rewind();
    return $stream;
}

function following($stream) {
    for ($tries = 0; $tries < 20 && !$stream->valid(); $tries++) $stream->next();
    return $stream->current();
}

// What PHP's driver can do beyond CRUD on every deployment.
function every_deployment(Manager $manager, array $options): void {
    $manager->executeWriteCommand('shop', new Command(['create' => 'smoke_capped', 'capped' => true, 'size' => 100000]));
    inserted($manager, 'smoke_capped', [['_id' => 1]]);
    $tail = $manager->executeQuery('shop.smoke_capped', new Query([], ['tailable' => true, 'awaitData' => true, 'maxAwaitTimeMS' => 500]));
    $tail->rewind();
    $first = $tail->current()->_id;
    inserted($manager, 'smoke_capped', [['_id' => 2]]);
    $tail->next();
    say('tailable', $first, following($tail)->_id);

    $overheard = new Manager(getenv('DRIVER_OVERHEARD_URI'), $options);
    say('compression', count($overheard->executeQuery('shop.smoke_numbers', new Query([]))->toArray()));

    $strict = new Manager(getenv('DRIVER_URI'), $options, ['serverApi' => new ServerApi(ServerApi::V1, true, true)]);
    $found = $strict->executeQuery('shop.smoke_capped', new Query(['_id' => 1]))->toArray()[0]->_id;
    say('stable API', $found,
        refusal(fn () => $strict->executeCommand('shop', new Command(['distinct' => 'smoke_capped', 'key' => '_id']))),
        refusal(fn () => $strict->executeQuery('vault.secrets', new Query([]))));
}

// What a replica set adds.
function of_a_set(Manager $manager, array $options): void {
    failing_once('insert', fn () => inserted($manager, 'smoke_retries', [['_id' => 1]]));
    $found = failing_once('find', fn () => count($manager->executeQuery('shop.smoke_retries', new Query([]))->toArray()));
    $once = new Manager(getenv('DRIVER_URI'), ['retryWrites' => false] + $options);
    $lost = failing_once('insert', fn () => refusal(fn () => inserted($once, 'smoke_retries', [['_id' => 2]])));
    say('retries', counted($manager, 'smoke_retries'), $found, $lost);

    $session = $manager->startSession();
    $session->startTransaction();
    inserted($manager, 'smoke_retries', [['_id' => 'before']], ['session' => $session]);
    $read = refusal(fn () => $manager->executeQuery('vault.secrets', new Query([]), ['session' => $session]));
    $secret = new BulkWrite();
    $secret->insert(['_id' => 1]);
    $write = refusal(fn () => $manager->executeBulkWrite('vault.secrets', $secret, ['session' => $session]));
    say('denied in a transaction', $read, $write, refusal(fn () => $session->commitTransaction()), counted($manager, 'smoke_retries'));

    inserted($manager, 'smoke_watched', [['_id' => 0]]);
    $stream = watched($manager, 'shop', 'smoke_watched');
    inserted($manager, 'smoke_watched', [['_id' => 1]]);
    $token = following($stream)->_id;
    inserted($manager, 'smoke_watched', [['_id' => 2]]);
    $second = following(watched($manager, 'shop', 'smoke_watched', ['resumeAfter' => $token]));
    say('resumed', $second->documentKey->_id, refusal(fn () => watched($manager, 'vault', 'secrets')));

    $majority = new WriteConcern(WriteConcern::MAJORITY);
    $causal = $manager->startSession(['causalConsistency' => true]);
    inserted($manager, 'smoke_causal', [['_id' => 1]], ['session' => $causal, 'writeConcern' => $majority]);
    $strong = new Query([], ['readConcern' => new ReadConcern(ReadConcern::MAJORITY)]);
    $reads = ['session' => $causal, 'readPreference' => new ReadPreference(ReadPreference::SECONDARY_PREFERRED)];
    $found = $manager->executeQuery('shop.smoke_causal', $strong, $reads)->toArray();
    say('causal', count($found), $causal->getOperationTime() !== null, $causal->getClusterTime() !== null);

    inserted($manager, 'smoke_snapshot', [['_id' => 1]], ['writeConcern' => $majority]);
    $snapshot = $manager->startSession(['snapshot' => true]);
    $before = counted($manager, 'smoke_snapshot', ['session' => $snapshot]);
    inserted($manager, 'smoke_snapshot', [['_id' => 2]], ['writeConcern' => $majority]);
    $again = counted($manager, 'smoke_snapshot', ['session' => $snapshot]);
    say('snapshot', $before, $again, counted($manager, 'smoke_snapshot'),
        refusal(fn () => $manager->executeQuery('vault.secrets', new Query([]), ['session' => $snapshot])));
}

function counted(Manager $manager, string $collection, array $options = []): int {
    $command = new Command(['aggregate' => $collection, 'cursor' => new stdClass(),
        'pipeline' => [['$group' => ['_id' => null, 'n' => ['$sum' => 1]]]]]);
    $found = $manager->executeReadCommand('shop', $command, $options)->toArray();
    return $found ? $found[0]->n : 0;
}

function inserted(Manager $manager, string $collection, array $documents, array $options = []): int {
    $bulk = new BulkWrite();
    foreach ($documents as $document) $bulk->insert($document);
    return $manager->executeBulkWrite("shop.$collection", $bulk, $options)->getInsertedCount();
}

say('version', phpversion('mongodb'));
$manager = new Manager($uri, $options);
$ours = new Command(['listCollections' => 1, 'nameOnly' => true, 'filter' => ['name' => ['$regex' => '^smoke_']]]);
foreach ($manager->executeReadCommand('shop', $ours)->toArray() as $collection) {
    $manager->executeCommand('shop', new Command(['drop' => $collection->name]));
}
inserted($manager, 'smoke_people', [['_id' => 1, 'name' => 'Ada'], ['_id' => 2, 'name' => 'Grace']]);
$bulk = new BulkWrite();
$bulk->insert(['_id' => 3, 'name' => 'Edsger']);
$bulk->update(['_id' => 1], ['$set' => ['seen' => true]]);
$bulk->update(['_id' => 4], ['$set' => ['name' => 'Alan']], ['upsert' => true]);
$bulk->delete(['_id' => 3]);
$done = $manager->executeBulkWrite('shop.smoke_people', $bulk);
say('bulk', $done->getInsertedCount(), $done->getModifiedCount(), $done->getUpsertedCount(), $done->getDeletedCount());
say('crud', counted($manager, 'smoke_people'));
try {
    inserted($manager, 'smoke_people', [['_id' => 1]]);
} catch (BulkWriteException $error) {
    say('duplicate', $error->getWriteResult()->getWriteErrors()[0]->getCode());
}
inserted($manager, 'smoke_numbers', array_map(fn ($n) => ['_id' => $n], range(0, 499)));
$cursor = $manager->executeQuery('shop.smoke_numbers', new Query([], ['batchSize' => 50]));
say('cursors', count($cursor->toArray()));
$group = new Command(['aggregate' => 'smoke_numbers', 'cursor' => new stdClass(),
    'pipeline' => [['$group' => ['_id' => null, 'sum' => ['$sum' => '$_id']]]]]);
say('aggregation', $manager->executeReadCommand('shop', $group)->toArray());
$manager->executeWriteCommand('shop', new Command(['createIndexes' => 'smoke_people',
    'indexes' => [['key' => ['name' => 1], 'name' => 'name_1']]]));
say('indexes', count($manager->executeReadCommand('shop', new Command(['listIndexes' => 'smoke_people']))->toArray()));
$session = $manager->startSession();
inserted($manager, 'smoke_accounts', [['_id' => 1]], ['session' => $session]);
say('session', counted($manager, 'smoke_accounts', ['session' => $session]));
if ($deployment === 'set') {
    $session->startTransaction();
    inserted($manager, 'smoke_accounts', [['_id' => 2]], ['session' => $session]);
    $session->commitTransaction();
    $session->startTransaction();
    inserted($manager, 'smoke_accounts', [['_id' => 3]], ['session' => $session]);
    $session->abortTransaction();
    say('transactions', counted($manager, 'smoke_accounts'));
    $stream = watched($manager, 'shop', 'smoke_accounts');
    inserted($manager, 'smoke_accounts', [['_id' => 5]]);
    say('change stream', following($stream)->operationType);
    of_a_set($manager, $options);
}
every_deployment($manager, $options);
try {
    $manager->executeQuery('vault.secrets', new Query([]));
} catch (Exception $error) {
    say('denied', $error->getCode(), substr($error->getMessage(), 0, 60));
}
$secret = new BulkWrite();
$secret->insert(['_id' => 1]);
say('denied write', refusal(fn () => $manager->executeBulkWrite('vault.secrets', $secret)));
try {
    (new Manager($wrong_uri, $options))->executeQuery('shop.smoke_people', new Query([]));
} catch (AuthenticationException $error) {
    say('wrong password', $error->getCode(), $error->getMessage());
}
