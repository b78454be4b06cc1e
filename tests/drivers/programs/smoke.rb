# What an application does with Ruby's driver. Usage: ruby smoke.rb URI WRONG_URI set|standalone
# Debian's driver is older than its Ruby: URI.decode is gone since Ruby 3.0.
require 'uri'
module URI
  def self.decode(text) = URI.decode_www_form_component(text)
end
require 'logger'
require 'mongo'

uri, wrong_uri, deployment = ARGV
Mongo::Logger.logger = Logger.new(IO::NULL)
OPTIONS = { server_selection_timeout: 10 }.freeze

# The code of the error (it is in its text alone), or its class.
def refusal
  yield
  'allowed'
rescue Mongo::Error => error
  error.message[/\((\d+)\)/, 1] || error.class
end

# The server closes the connection on which the command comes, once. What makes it so is told to the deployment itself, as
# its administrator: the tested user may not.
def failing_once(command)
  admin = Mongo::Client.new(ENV.fetch('DRIVER_ADMIN_URI'), OPTIONS).use('admin')
  data = { failCommands: [command], closeConnection: true }
  before = admin.database.command(configureFailPoint: 'failCommand', mode: { times: 1 }, data: data)
  found = yield
  after = admin.database.command(configureFailPoint: 'failCommand', mode: 'off')
  # what came too late to fail has shown nothing
  raise "#{command} has not failed" if after.documents[0]['count'] <= before.documents[0]['count']

  found
ensure
  admin.close
end

puts "version: #{Mongo::VERSION}"
client = Mongo::Client.new(uri, OPTIONS.merge(retry_writes: deployment == 'set')).use('shop')
client.database.collection_names.grep(/^smoke_/).each { |name| client[name].drop }
people = client[:smoke_people]
people.insert_many([{ _id: 1, name: 'Ada' }, { _id: 2, name: 'Grace' }, { _id: 3, name: 'Edsger' }])
updated = people.update_many({}, { '$set' => { seen: true } }).modified_count
found = people.find_one_and_update({ _id: 2 }, { '$inc' => { n: 1 } }, return_document: :after)
puts "crud: #{updated} #{found[:n]} #{people.delete_one(_id: 3).deleted_count} #{people.count} #{people.distinct(:name).sort}"
begin
  people.insert_one(_id: 1)
rescue Mongo::Error::OperationFailure => error
  puts "duplicate: #{error.message[0, 30]}"
end
client[:smoke_numbers].insert_many((0...500).map { |n| { _id: n } })
puts "cursors: #{client[:smoke_numbers].find.batch_size(50).to_a.size}"
puts "aggregation: #{client[:smoke_numbers].aggregate([{ '$group' => { _id: nil, sum: { '$sum' => '$_id' } } }]).to_a}"
people.indexes.create_one({ name: 1 }, unique: true)
puts "indexes: #{people.indexes.map { |index| index['name'] }}"
done = client[:smoke_bulk].bulk_write([{ insert_one: { _id: 1 } }, { update_one: { filter: { _id: 2 }, update: { '$set' => { n: 1 } }, upsert: true } }, { delete_one: { filter: { _id: 1 } } }])
puts "bulk: #{done.inserted_count} #{done.upserted_count} #{done.deleted_count}"
session = client.start_session
client[:smoke_session].insert_one({ _id: 1 }, session: session)
puts "session: #{client[:smoke_session].find({}, session: session).to_a.size}"
session.end_session
capped = client[:smoke_capped, capped: true, size: 100_000]
capped.create
capped.insert_one(_id: 1)
tail = capped.find({}, cursor_type: :tailable_await).each
first = tail.next
capped.insert_one(_id: 2)
puts "tailable: #{first['_id']} #{tail.next['_id']}"
# 2.5.1 does not know directConnection, and would leave the relay
direct = OPTIONS.merge(compressors: ['zlib'], connect: :direct)
overheard = Mongo::Client.new(ENV.fetch('DRIVER_OVERHEARD_URI'), direct).use('shop')
puts "compression: #{overheard[:smoke_numbers].find.to_a.size}"
overheard.close
if deployment == 'set'
  kept = client[:smoke_retries]
  failing_once('insert') { kept.insert_one(_id: 1) }
  found = failing_once('find') { kept.find(_id: 1).first }
  once = client.with(retry_writes: false)
  lost = failing_once('insert') { refusal { once[:smoke_retries].insert_one(_id: 2) } }
  puts "retries: #{kept.find.to_a.size} #{found['_id']} #{lost}"

  watched = client[:smoke_watched]
  stream = watched.watch([], max_await_time_ms: 500).to_enum
  watched.insert_one(_id: 1)
  event = stream.next
  puts "change stream: #{event['operationType']}"
  watched.insert_one(_id: 2)
  stream = watched.watch([], resume_after: event['_id'], max_await_time_ms: 500).to_enum
  second = stream.next
  third = failing_once('getMore') do
    watched.insert_one(_id: 3)
    stream.next
  end
  denied = refusal { client.use('vault')[:secrets].watch.to_enum.next }
  puts "resumed: #{second['documentKey']['_id']} #{third['documentKey']['_id']} #{denied}"

  causal = client.start_session(causal_consistency: true)
  strong = client.with(write: { w: :majority }, read: { mode: :secondary_preferred })[:smoke_causal, read_concern: { level: 'majority' }]
  strong.insert_one({ _id: 1 }, session: causal)
  puts "causal: #{strong.find({}, session: causal).to_a.size} #{!causal.operation_time.nil?}"
  causal.end_session
end
begin
  client.use('vault')[:secrets].find.first
rescue Mongo::Error::OperationFailure => error
  puts "denied: #{error.message[/\((\d+)\)/, 1]} #{error.message[0, 60]}"
end
puts "denied write: #{refusal { client.use('vault')[:secrets].insert_one({}) }}"
client.close
begin
  Mongo::Client.new(wrong_uri, server_selection_timeout: 3).use('shop')[:smoke_people].find.first
rescue Mongo::Auth::Unauthorized, Mongo::Error => error
  puts "wrong password: #{error.class}"
end
