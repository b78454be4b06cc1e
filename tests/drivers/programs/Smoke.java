// What an application does with Java's driver (3.6). Usage: java Smoke.java URI WRONG_URI set|standalone
import com.mongodb.*;
import com.mongodb.client.*;
import com.mongodb.session.ClientSession;
import com.mongodb.client.model.*;
import com.mongodb.client.model.changestream.ChangeStreamDocument;
import java.util.*;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import java.util.logging.*;
import org.bson.BsonDocument;
import org.bson.Document;

public class Smoke {
    public static void main(String[] arguments) {
        Logger.getLogger("org.mongodb.driver").setLevel(Level.OFF);
        System.out.println("version: 3.6.3");
        MongoClient client = new MongoClient(new MongoClientURI(arguments[0]));
        MongoDatabase db = client.getDatabase("shop");
        for (String name : db.listCollectionNames().into(new ArrayList<>())) {
            if (name.startsWith("smoke_")) db.getCollection(name).drop();
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
        System.out.println("denied write: " + refusal(() -> {
            client.getDatabase("vault").getCollection("secrets").insertOne(new Document());
            return null;
        }));
        everyDeployment(db);
        if (arguments[2].equals("set")) ofASet(client, arguments[0]);
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

    /** The code of the error, or that there was none. */
    private static String refusal(Supplier<Object> what) {
        try {
            what.get();
        } catch (MongoException error) {
            return error.getCode() > 0 ? "" + error.getCode() : error.getClass().getSimpleName();
        }
        return "allowed";
    }

    /** The server closes the connection on which the command comes, once; it is told so by its administrator. */
    private static <T> T failingOnce(String command, Supplier<T> what) {
        try (MongoClient client = new MongoClient(new MongoClientURI(System.getenv("DRIVER_ADMIN_URI")))) {
            MongoDatabase admin = client.getDatabase("admin");
            Document data = new Document("failCommands", Arrays.asList(command)).append("closeConnection", true);
            Document fail = new Document("configureFailPoint", "failCommand").append("data", data);
            int before = admin.runCommand(fail.append("mode", new Document("times", 1))).getInteger("count");
            T found = what.get();
            int after = admin.runCommand(fail.append("mode", "off")).getInteger("count");
            // what came too late to fail has shown nothing
            if (after <= before) throw new IllegalStateException(command + " has not failed");
            return found;
        }
    }

    private static boolean inserted(MongoCollection<Document> collection, int id) {
        collection.insertOne(new Document("_id", id));
        return true;
    }

    private static void everyDeployment(MongoDatabase db) {
        db.createCollection("smoke_capped", new CreateCollectionOptions().capped(true).sizeInBytes(100000));
        MongoCollection<Document> capped = db.getCollection("smoke_capped");
        inserted(capped, 1);
        try (MongoCursor<Document> tail = capped.find().cursorType(CursorType.TailableAwait).maxAwaitTime(5, TimeUnit.SECONDS).iterator()) {
            Object first = tail.next().get("_id");
            inserted(capped, 2);
            System.out.println("tailable: " + first + " " + tail.next().get("_id"));
        }
        try (MongoClient overheard = new MongoClient(new MongoClientURI(System.getenv("DRIVER_OVERHEARD_URI")))) {
            System.out.println("compression: " + overheard.getDatabase("shop").getCollection("smoke_numbers").find().into(new ArrayList<>()).size());
        }
    }

    private static void ofASet(MongoClient once, String uri) {
        try (MongoClient client = new MongoClient(new MongoClientURI(uri + "&retryWrites=true"))) {
            MongoDatabase db = client.getDatabase("shop");
            retries(db, once.getDatabase("shop"));
            streams(client, db);
            MongoCollection<Document> strong = db.getCollection("smoke_causal").withReadConcern(ReadConcern.MAJORITY)
                .withWriteConcern(WriteConcern.MAJORITY).withReadPreference(ReadPreference.secondaryPreferred());
            try (ClientSession session = client.startSession(ClientSessionOptions.builder().causallyConsistent(true).build())) {
                strong.insertOne(session, new Document("_id", 1));
                System.out.println("causal: " + strong.find(session).first() + " " + (session.getOperationTime() != null));
            }
        }
    }

    /** A read is not tried again by this driver, and neither is a write of a client that did not ask for it. */
    private static void retries(MongoDatabase db, MongoDatabase once) {
        MongoCollection<Document> kept = db.getCollection("smoke_retries");
        failingOnce("insert", () -> inserted(kept, 1));
        String lost = failingOnce("insert", () -> refusal(() -> inserted(once.getCollection("smoke_retries"), 2)));
        System.out.println("retries: " + kept.count() + " " + lost);
    }

    private static void streams(MongoClient client, MongoDatabase db) {
        MongoCollection<Document> watched = db.getCollection("smoke_watched");
        BsonDocument token;
        try (MongoCursor<ChangeStreamDocument<Document>> stream = watched.watch().iterator()) {
            inserted(watched, 1);
            ChangeStreamDocument<Document> event = stream.next();
            token = event.getResumeToken();
            System.out.println("change stream: " + event.getOperationType().getValue());
        }
        inserted(watched, 2);
        try (MongoCursor<ChangeStreamDocument<Document>> stream = watched.watch().resumeAfter(token).iterator()) {
            Object second = stream.next().getDocumentKey();
            Object third = failingOnce("getMore", () -> {
                inserted(watched, 3);
                return stream.next().getDocumentKey();
            });
            System.out.println("resumed: " + second + " " + third + " " + refusal(() -> client.getDatabase("vault").getCollection("secrets").watch().iterator()));
        }
    }
}
