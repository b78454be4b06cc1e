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

print "version: $MongoDB::VERSION\n";
my $client = MongoDB->connect($uri, \%options);
my $db = $client->get_database('shop');
$db->get_collection($_)->drop for qw(smoke_people smoke_numbers smoke_bulk smoke_accounts);
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
    my $event;
    for (1 .. 20) { last if $event = $stream->next }
    print "change stream: $event->{operationType}\n";
    $session->end_session;
}
my $denied = failure(sub { $client->get_database('vault')->get_collection('secrets')->find_one });
print 'denied: ', $denied->code, ' ', substr($denied->message, 0, 60), "\n";
my $refused = failure(sub { MongoDB->connect($wrong_uri, \%options)->get_database('shop')->get_collection('smoke_people')->find_one });
print 'wrong password: ', ref($refused), ' ', $refused->message =~ /auth.*fail/i ? 'authentication failed' : $refused->message, "\n";
