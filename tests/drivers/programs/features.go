// What Go's driver can do beyond CRUD. What makes a server fail once is told to the deployment itself, as its administrator
// (DRIVER_ADMIN_URI): the tested user may not.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/mongo"
	"go.mongodb.org/mongo-driver/mongo/options"
	"go.mongodb.org/mongo-driver/mongo/readconcern"
	"go.mongodb.org/mongo-driver/mongo/readpref"
	"go.mongodb.org/mongo-driver/mongo/writeconcern"
)

// The code of the error, 0 for none, -1 for one without code.
func refusal(err error) int {
	var failed mongo.ServerError
	if err == nil {
		return 0
	}
	if !errors.As(err, &failed) {
		return -1
	}
	for code := 1; code < 1000; code++ {
		if failed.HasErrorCode(code) {
			return code
		}
	}
	return -1
}

// The server closes the connection on which the command comes, once.
func failingOnce(ctx context.Context, command string, what func()) {
	admin := connect(ctx, os.Getenv("DRIVER_ADMIN_URI"))
	set := func(mode interface{}) int64 {
		data := bson.D{{Key: "failCommands", Value: bson.A{command}}, {Key: "closeConnection", Value: true}}
		reply := must(admin.Database("admin").RunCommand(ctx, bson.D{{Key: "configureFailPoint", Value: "failCommand"}, {Key: "mode", Value: mode}, {Key: "data", Value: data}}).DecodeBytes())
		return reply.Lookup("count").AsInt64()
	}
	before := set(bson.M{"times": 1})
	what()
	if set("off") <= before { // what came too late to fail has shown nothing
		check(errors.New(command + " has not failed"))
	}
	disconnect(ctx, admin)
}

func ids(ctx context.Context, cursor *mongo.Cursor) (found []interface{}) {
	for cursor.Next(ctx) {
		found = append(found, cursor.Current.Lookup("_id").Int32())
	}
	check(cursor.Err())
	return found
}

func everyDeployment(ctx context.Context, db *mongo.Database) {
	check(db.CreateCollection(ctx, "smoke_capped", options.CreateCollection().SetCapped(true).SetSizeInBytes(100000)))
	capped := db.Collection("smoke_capped")
	must(capped.InsertOne(ctx, bson.M{"_id": 1}))
	cursor := must(capped.Find(ctx, bson.M{}, options.Find().SetCursorType(options.TailableAwait).SetMaxAwaitTime(5*time.Second)))
	one := cursor.Next(ctx)
	time.AfterFunc(300*time.Millisecond, func() { must(capped.InsertOne(ctx, bson.M{"_id": 2})) })
	two := cursor.Next(ctx)
	fmt.Println("tailable:", one, two, cursor.Current.Lookup("_id").Int32())
	check(cursor.Close(ctx))

	overheard := connect(ctx, os.Getenv("DRIVER_OVERHEARD_URI"))
	fmt.Println("compression:", len(ids(ctx, must(overheard.Database("shop").Collection("smoke_numbers").Find(ctx, bson.M{}, options.Find().SetBatchSize(100))))))
	disconnect(ctx, overheard)

	api := options.ServerAPI(options.ServerAPIVersion1).SetStrict(true).SetDeprecationErrors(true)
	strict := must(mongo.Connect(ctx, options.Client().ApplyURI(os.Getenv("DRIVER_URI")).SetServerAPIOptions(api)))
	found := strict.Database("shop").Collection("smoke_capped").FindOne(ctx, bson.M{"_id": 1})
	_, refused := strict.Database("shop").Collection("smoke_capped").Distinct(ctx, "_id", bson.M{})
	denied := strict.Database("vault").Collection("secrets").FindOne(ctx, bson.M{}).Err()
	fmt.Println("stable API:", refusal(found.Err()), refusal(refused), refusal(denied))
	disconnect(ctx, strict)
}

func ofASet(ctx context.Context, client *mongo.Client, db *mongo.Database) {
	retries(ctx, db)
	transactions(ctx, client, db)
	resumed(ctx, client, db)
	consistent(ctx, client, db)
}

func retries(ctx context.Context, db *mongo.Database) {
	kept := db.Collection("smoke_retries")
	failingOnce(ctx, "insert", func() { must(kept.InsertOne(ctx, bson.M{"_id": 1})) })
	failingOnce(ctx, "find", func() { check(kept.FindOne(ctx, bson.M{"_id": 1}).Err()) })
	once := must(mongo.Connect(ctx, options.Client().ApplyURI(os.Getenv("DRIVER_URI")).SetRetryWrites(false)))
	failingOnce(ctx, "insert", func() {
		_, err := once.Database("shop").Collection("smoke_retries").InsertOne(ctx, bson.M{"_id": 2})
		fmt.Println("retries:", must(kept.CountDocuments(ctx, bson.M{})), mongo.IsNetworkError(err))
	})
	disconnect(ctx, once)
}

func transactions(ctx context.Context, client *mongo.Client, db *mongo.Database) {
	check(db.CreateCollection(ctx, "smoke_moved"))
	moved, secrets, calls := db.Collection("smoke_moved"), client.Database("vault").Collection("secrets"), 0
	session := must(client.StartSession())
	defer session.EndSession(ctx)
	move := func(inside mongo.SessionContext) (interface{}, error) {
		calls++
		return moved.InsertOne(inside, bson.M{"_id": calls})
	}
	failingOnce(ctx, "insert", func() { must(session.WithTransaction(ctx, move)) })
	tried := calls
	failingOnce(ctx, "commitTransaction", func() { must(session.WithTransaction(ctx, move)) })
	fmt.Println("with transaction:", tried, calls, must(moved.CountDocuments(ctx, bson.M{})))

	check(session.StartTransaction())
	check(mongo.WithSession(ctx, session, func(inside mongo.SessionContext) error {
		must(moved.InsertOne(inside, bson.M{"_id": "before"}))
		read := secrets.FindOne(inside, bson.M{}).Err()
		_, write := secrets.InsertOne(inside, bson.M{})
		fmt.Print("denied in a transaction: ", refusal(read), " ", refusal(write), " ", refusal(session.CommitTransaction(inside)), " ")
		return nil
	}))
	fmt.Println(must(moved.CountDocuments(ctx, bson.M{"_id": "before"})))
}

func resumed(ctx context.Context, client *mongo.Client, db *mongo.Database) {
	watched := db.Collection("smoke_watched")
	stream := must(watched.Watch(ctx, mongo.Pipeline{}))
	must(watched.InsertOne(ctx, bson.M{"_id": 1}))
	stream.Next(ctx)
	token := stream.ResumeToken()
	check(stream.Close(ctx))
	must(watched.InsertOne(ctx, bson.M{"_id": 2}))
	stream = must(watched.Watch(ctx, mongo.Pipeline{}, options.ChangeStream().SetResumeAfter(token).SetMaxAwaitTime(500*time.Millisecond)))
	stream.Next(ctx)
	second := stream.Current.Lookup("documentKey", "_id").Int32()
	failingOnce(ctx, "getMore", func() {
		must(watched.InsertOne(ctx, bson.M{"_id": 3}))
		stream.Next(ctx)
	})
	_, denied := client.Database("vault").Collection("secrets").Watch(ctx, mongo.Pipeline{})
	fmt.Println("resumed:", second, stream.Current.Lookup("documentKey", "_id").Int32(), refusal(denied))
	check(stream.Close(ctx))
}

func consistent(ctx context.Context, client *mongo.Client, db *mongo.Database) {
	strong := options.Collection().SetReadConcern(readconcern.Majority()).SetWriteConcern(writeconcern.New(writeconcern.WMajority())).SetReadPreference(readpref.SecondaryPreferred())
	causal := must(client.StartSession(options.Session().SetCausalConsistency(true)))
	check(mongo.WithSession(ctx, causal, func(inside mongo.SessionContext) error {
		must(db.Collection("smoke_causal", strong).InsertOne(inside, bson.M{"_id": 1}))
		found := ids(ctx, must(db.Collection("smoke_causal", strong).Find(inside, bson.M{})))
		fmt.Println("causal:", found, causal.OperationTime() != nil, causal.ClusterTime() != nil)
		return nil
	}))
	causal.EndSession(ctx)
	seen := db.Collection("smoke_snapshot", options.Collection().SetWriteConcern(writeconcern.New(writeconcern.WMajority())))
	for n := 0; n < 10; n++ {
		must(seen.InsertOne(ctx, bson.M{"_id": n}))
	}
	snapshot := must(client.StartSession(options.Session().SetSnapshot(true)))
	check(mongo.WithSession(ctx, snapshot, func(inside mongo.SessionContext) error {
		before := must(seen.CountDocuments(inside, bson.M{}))
		must(seen.DeleteMany(ctx, bson.M{}))
		again := len(ids(ctx, must(seen.Find(inside, bson.M{}, options.Find().SetBatchSize(3)))))
		denied := client.Database("vault").Collection("secrets").FindOne(inside, bson.M{}).Err()
		fmt.Println("snapshot:", before, again, must(seen.CountDocuments(ctx, bson.M{})), refusal(denied))
		return nil
	}))
	snapshot.EndSession(ctx)
}
