// What an application does with Java's driver (3.6). Usage: java Smoke.java URI WRONG_URI set|standalone
import com.mongodb.*;
import com.mongodb.client.*;
import com.mongodb.session.ClientSession;
import com.mongodb.client.model.*;
import java.util.*;
import java.util.logging.*;
import org.bson.Document;

public class Smoke {
    public static void main(String[] arguments) {
        Logger.getLogger("org.mongodb.driver").setLevel(Level.OFF);
        System.out.println("version: 3.6.3");
        MongoClient client = new MongoClient(new MongoClientURI(arguments[0]));
        MongoDatabase db = client.getDatabase("shop");
        for (String name : Arrays.asList("smoke_people", "smoke_numbers", "smoke_bulk", "smoke_session")) {
            db.getCollection(name).drop();
        }
        documents(db);
        try (ClientSession session = client.startSession(ClientSessionOptions.builder().causallyConsistent(true).build())) {
            db.getCollection("smoke_session").insertOne(session, new Document("_id", 1));
            System.out.println("session: " + db.getCollection("smoke_session").count(session));
        }
        try {
            client.getDatabase("vault").getCollection("secrets").find().first();
        } catch (MongoException error) {
            System.out.println("denied: " + error.getCode());
        }
        client.close();
        try (MongoClient stranger = new MongoClient(new MongoClientURI(arguments[1] + "&serverSelectionTimeoutMS=3000"))) {
            stranger.getDatabase("shop").getCollection("smoke_people").find().first();
        } catch (MongoException error) {
            System.out.println("wrong password: " + error.getClass().getSimpleName());
        }
    }

    private static void documents(MongoDatabase db) {
        MongoCollection<Document> people = db.getCollection("smoke_people");
        people.insertMany(Arrays.asList(new Document("_id", 1).append("name", "Ada"), new Document("_id", 2).append("name", "Grace")));
        long updated = people.updateMany(new Document(), Updates.set("seen", true)).getModifiedCount();
        Document found = people.findOneAndUpdate(Filters.eq("_id", 2), Updates.inc("n", 1));
        System.out.println("crud: " + updated + " " + found.get("name") + " " + people.count());
        try {
            people.insertOne(new Document("_id", 1));
        } catch (MongoWriteException error) {
            System.out.println("duplicate: " + error.getCode());
        }
        MongoCollection<Document> numbers = db.getCollection("smoke_numbers");
        List<Document> many = new ArrayList<>();
        for (int n = 0; n < 500; n++) many.add(new Document("_id", n));
        numbers.insertMany(many);
        System.out.println("cursors: " + numbers.find().batchSize(50).into(new ArrayList<>()).size());
        System.out.println("aggregation: " + numbers.aggregate(Arrays.asList(Aggregates.group(null, Accumulators.sum("sum", "$_id")))).first());
        people.createIndex(Indexes.ascending("name"), new IndexOptions().unique(true));
        System.out.println("indexes: " + people.listIndexes().into(new ArrayList<>()).size());
        System.out.println("bulk: " + db.getCollection("smoke_bulk").bulkWrite(Arrays.asList(
            new InsertOneModel<>(new Document("_id", 1)), new DeleteOneModel<>(Filters.eq("_id", 1)))).getDeletedCount());
    }
}
