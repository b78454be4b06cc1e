<?php
// What an application does with PHP's driver (the extension). Usage: php smoke.php URI WRONG_URI set|standalone

use MongoDB\Driver\{BulkWrite, Command, Manager, Query};
use MongoDB\Driver\Exception\{AuthenticationException, BulkWriteException, Exception};

[, $uri, $wrong_uri, $deployment] = $argv;
$options = ['serverSelectionTimeoutMS' => 10000];

function say(string $part, ...$found): void {
    echo $part, ': ', implode(' ', array_map(fn ($v) => is_string($v) ? $v : json_encode($v), $found)), "\n";
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
foreach (['smoke_people', 'smoke_numbers', 'smoke_accounts'] as $name) {
    try {
        $manager->executeCommand('shop', new Command(['drop' => $name]));
    } catch (Exception $error) {
        if ($error->getCode() !== 26) throw $error;
    }
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
    $watch = new Command(['aggregate' => 'smoke_accounts', 'cursor' => new stdClass(), 'pipeline' => [['$changeStream' => new stdClass()]]]);
    $stream = $manager->executeReadCommand('shop', $watch, []);
    $stream->rewind();
    inserted($manager, 'smoke_accounts', [['_id' => 5]]);
    for ($tries = 0; $tries < 20 && !$stream->valid(); $tries++) $stream->next();
    say('change stream', $stream->current()->operationType);
}
try {
    $manager->executeQuery('vault.secrets', new Query([]));
} catch (Exception $error) {
    say('denied', $error->getCode(), substr($error->getMessage(), 0, 60));
}
try {
    (new Manager($wrong_uri, $options))->executeQuery('shop.smoke_people', new Query([]));
} catch (AuthenticationException $error) {
    say('wrong password', $error->getCode(), $error->getMessage());
}
