# What an application does with Perl's driver. Usage: perl smoke.pl URI WRONG_URI set|standalone
use strict;
use warnings;
use MongoDB;
use MongoDB::WriteConcern;

my ($uri, $wrong_uri, $deployment) = @ARGV;
my %options = (server_selection_timeout_ms => 10_000);

sub failure {
    my ($what) = @_;
    return $@ unless eval { $what->(); 1 };
    die 'this should have been refused';
}

# The code of the error, or its class when it has none.
sub refusal {
    my ($what) = @_;
    my $error = failure($what);
    return ref($error) && $error->can('code') && $error->code ? $error->code : ref($error);
}

# The server closes the connection on which the command comes, once. What makes it so is told to the deployment itself, as
# its administrator: the tested user may not.
sub failing_once {
    my ($command, $what) = @_;
    my $admin = MongoDB->connect($ENV{DRIVER_ADMIN_URI}, \%options)->get_database('admin');
    my @data = (failCommands => [$command], closeConnection => boolean::true);
    my $before = $admin->run_command([configureFailPoint => 'failCommand', mode => { times => 1 }, data => {@data}]);
    my $found = $what->();
    my $after = $admin->run_command([configureFailPoint => 'failCommand', mode => 'off']);
    die "$command has not failed" if $after->{count} <= $before->{count};    # and so has shown nothing
    return $found;
}

sub following {
    my ($stream) = @_;
    for (1 .. 20) {
        my $event = $stream->next;
        return $event if $event;
    }
    die 'no event';
}

print "version: $MongoDB::VERSION\n";
my $client = MongoDB->connect($uri, \%options);
my $db = $client->get_database('shop');
$db->get_collection($_)->drop for grep { /^smoke_/ } $db->collection_names;
my $people = $db->get_collection('smoke_people');
$people->insert_many([{ _id => 1, name => 'Ada' }, { _id => 2, name => 'Grace' }, { _id => 3, name => 'Edsger' }]);
my $updated = $people->update_many({}, { '$set' => { seen => 1 } })->modified_count;
my $deleted = $people->delete_one({ _id => 3 })->deleted_count;
print "crud: $updated $deleted ", $people->count_documents({}), ' ', join(',', sort $people->distinct('name')->all), "\n";
print 'duplicate: ', failure(sub { $people->insert_one({ _id => 1 }) })->code, "\n";
my $numbers = $db->get_collection('smoke_numbers');
$numbers->insert_many([map { { _id => $_ } } 0 .. 499]);
my @seen = $numbers->find({}, { batchSize => 50 })->all;
print 'cursors: ', scalar(@seen), "\n";
my ($total) = $numbers->aggregate([{ '$group' => { _id => undef, sum => { '$sum' => '$_id' } } }])->all;
print "aggregation: $total->{sum}\n";
$people->indexes->create_one([name => 1], { unique => 1 });
print 'indexes: ', join(' ', map { $_->{name} } $people->indexes->list->all), "\n";
my $done = $db->get_collection('smoke_bulk')->bulk_write([
    insert_one => [{ _id => 1 }],
    update_one => [{ _id => 2 }, { '$set' => { n => 1 } }, { upsert => 1 }],
    delete_one => [{ _id => 1 }],
]);
print 'bulk: ', join(' ', $done->inserted_count, $done->upserted_count, $done->deleted_count), "\n";
my $accounts = $db->get_collection('smoke_accounts');
$accounts->insert_one({ _id => 0 });
if ($deployment eq 'set') {    # this driver has no sessions on a standalone server
    my $session = $client->start_session;
    $accounts->insert_one({ _id => 1 }, { session => $session });
    print 'session: ', $accounts->count_documents({}, { session => $session }), "\n";
    $session->start_transaction;
    $accounts->insert_one({ _id => 2 }, { session => $session });
    $session->commit_transaction;
    $session->start_transaction;
    $accounts->insert_one({ _id => 3 }, { session => $session });
    $session->abort_transaction;
    print 'transactions: ', $accounts->count_documents({}), "\n";
    my $stream = $accounts->watch([], { maxAwaitTimeMS => 200 });
    $accounts->insert_one({ _id => 5 });
    my $event = following($stream);
    print "change stream: $event->{operationType}\n";
    $accounts->insert_one({ _id => 6 });
    $stream = $accounts->watch([], { resumeAfter => $event->{_id}, maxAwaitTimeMS => 500 });
    my $second = following($stream);
    my $third = failing_once(getMore => sub { $accounts->insert_one({ _id => 7 }); following($stream) });
    my $watched = refusal(sub { $client->get_database('vault')->get_collection('secrets')->watch->next });
    print "resumed: $second->{documentKey}{_id} $third->{documentKey}{_id} $watched\n";

    my $kept = $db->get_collection('smoke_retries');
    failing_once(insert => sub { $kept->insert_one({ _id => 1 }) });
    my $found = failing_once(find => sub { $kept->find_one({ _id => 1 }) })->{_id};
    my $once = MongoDB->connect($uri, { %options, retry_writes => 0 })->get_database('shop')->get_collection('smoke_retries');
    my $lost = failing_once(insert => sub { refusal(sub { $once->insert_one({ _id => 2 }) }) });
    print 'retries: ', $kept->count_documents({}), " $found $lost\n";

    my $calls = 0;
    my $move = sub { $kept->insert_one({ _id => 't' . ++$calls }, { session => $session }) };
    failing_once(insert => sub { $session->with_transaction($move) });
    my $tried = $calls;
    failing_once(commitTransaction => sub { $session->with_transaction($move) });
    print "with transaction: $tried $calls ", $kept->count_documents({}), "\n";

    my $secrets = $client->get_database('vault')->get_collection('secrets');
    $session->start_transaction;
    $kept->insert_one({ _id => 'before' }, { session => $session });
    my @refused = map { refusal($_) } sub { $secrets->find_one({}, undef, { session => $session }) },
        sub { $secrets->insert_one({}, { session => $session }) };
    my $end = eval { $session->commit_transaction; 'committed' } // $@->code;
    print "denied in a transaction: @refused $end ", $kept->count_documents({ _id => 'before' }), "\n";
    $session->end_session;

    my $causal = $client->start_session({ causalConsistency => 1 });
    my $strong = $db->get_collection('smoke_causal', { read_concern => { level => 'majority' }, write_concern => { w => 'majority' },
        read_preference => 'secondaryPreferred' });
    $strong->insert_one({ _id => 1 }, { session => $causal });
    my @own = $strong->find({}, { session => $causal })->all;
    print 'causal: ', scalar(@own), ' ', defined $causal->operation_time ? 1 : 0, "\n";
    $causal->end_session;
}
$db->run_command([create => 'smoke_capped', capped => boolean::true, size => 100_000]);
my $capped = $db->get_collection('smoke_capped');
$capped->insert_one({ _id => 1 });
my $tail = $capped->find({}, { cursorType => 'tailable_await', maxAwaitTimeMS => 500 })->result;
my $one = $tail->next->{_id};
$capped->insert_one({ _id => 2 });
print "tailable: $one ", following($tail)->{_id}, "\n";
my $overheard = MongoDB->connect($ENV{DRIVER_OVERHEARD_URI}, \%options)->get_database('shop')->get_collection('smoke_numbers');
print 'compression: ', scalar($overheard->find->all), "\n";
my $denied = failure(sub { $client->get_database('vault')->get_collection('secrets')->find_one });
print 'denied: ', $denied->code, ' ', substr($denied->message, 0, 60), "\n";
print 'denied write: ', refusal(sub { $client->get_database('vault')->get_collection('secrets')->insert_one({}) }), "\n";
my $refused = failure(sub { MongoDB->connect($wrong_uri, \%options)->get_database('shop')->get_collection('smoke_people')->find_one });
print 'wrong password: ', ref($refused), ' ', $refused->message =~ /auth.*fail/i ? 'authentication failed' : $refused->message, "\n";
