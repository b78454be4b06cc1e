# What an application does with Ruby's driver. Usage: ruby smoke.rb URI WRONG_URI set|standalone
# Debian's driver is older than its Ruby: URI.decode is gone since Ruby 3.0.
require 'uri'
module URI
  def self.decode(text) = URI.decode_www_form_component(text)
end
require 'logger'
require 'mongo'

uri, wrong_uri, = ARGV
Mongo::Logger.logger = Logger.new(IO::NULL)
OPTIONS = { server_selection_timeout: 10 }.freeze

puts "version: #{Mongo::VERSION}"
client = Mongo::Client.new(uri, OPTIONS).use('shop')
%i[smoke_people smoke_numbers smoke_bulk smoke_session].each { |name| client[name].drop }
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
begin
  client.use('vault')[:secrets].find.first
rescue Mongo::Error::OperationFailure => error
  puts "denied: #{error.message[0, 60]}"
end
client.close
begin
  Mongo::Client.new(wrong_uri, server_selection_timeout: 3).use('shop')[:smoke_people].find.first
rescue Mongo::Auth::Unauthorized, Mongo::Error => error
  puts "wrong password: #{error.class}"
end
