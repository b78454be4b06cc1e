// What an application does with Go's driver. Usage: smoke_go URI WRONG_URI set|standalone
// Prints a line for each part: its name, a colon, what was found.
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
	"go.mongodb.org/mongo-driver/version"
)

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

// Until its deadline the driver waits for connections that it believes in use: behind a balancer those of committed
// transactions, too, which the end of their session does not give back.
func disconnect(ctx context.Context, client *mongo.Client) {
	ending, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	check(client.Disconnect(ending))
}

func connect(ctx context.Context, uri string) *mongo.Client {
	return must(mongo.Connect(ctx, options.Client().ApplyURI(uri).SetServerSelectionTimeout(10*time.Second)))
}

func documents(ctx context.Context, db *mongo.Database) {
	people := db.Collection("smoke_people")
	must(people.InsertMany(ctx, []interface{}{bson.M{"_id": 1, "name": "Ada"}, bson.M{"_id": 2, "name": "Grace"}, bson.M{"_id": 3, "name": "Edsger"}}))
	updated := must(people.UpdateMany(ctx, bson.M{}, bson.M{"$set": bson.M{"seen": true}}))
	deleted := must(people.DeleteOne(ctx, bson.M{"_id": 3}))
	fmt.Println("crud:", updated.ModifiedCount, deleted.DeletedCount, must(people.CountDocuments(ctx, bson.M{})))
	_, err := people.InsertOne(ctx, bson.M{"_id": 1})
	fmt.Println("duplicate:", mongo.IsDuplicateKeyError(err))
	numbers := db.Collection("smoke_numbers")
	many := make([]interface{}, 500)
	for n := range many {
		many[n] = bson.M{"_id": n}
	}
	must(numbers.InsertMany(ctx, many))
	cursor := must(numbers.Find(ctx, bson.M{}, options.Find().SetBatchSize(50)))
	var seen []bson.M
	check(cursor.All(ctx, &seen))
	fmt.Println("cursors:", len(seen))
	cursor = must(numbers.Aggregate(ctx, bson.A{bson.M{"$group": bson.M{"_id": nil, "sum": bson.M{"$sum": "$_id"}}}}))
	check(cursor.All(ctx, &seen))
	fmt.Println("aggregation:", seen[0]["sum"])
	name := must(people.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: bson.D{{Key: "name", Value: 1}}, Options: options.Index().SetUnique(true)}))
	specifications := must(people.Indexes().ListSpecifications(ctx))
	fmt.Println("indexes:", name, len(specifications))
	bulk := must(db.Collection("smoke_bulk").BulkWrite(ctx, []mongo.WriteModel{
		mongo.NewInsertOneModel().SetDocument(bson.M{"_id": 1}),
		mongo.NewUpdateOneModel().SetFilter(bson.M{"_id": 2}).SetUpdate(bson.M{"$set": bson.M{"n": 1}}).SetUpsert(true),
		mongo.NewDeleteOneModel().SetFilter(bson.M{"_id": 1}),
	}))
	fmt.Println("bulk:", bulk.InsertedCount, bulk.UpsertedCount, bulk.DeletedCount)
}

func sessions(ctx context.Context, client *mongo.Client, db *mongo.Database, set bool) {
	accounts := db.Collection("smoke_accounts")
	must(accounts.InsertOne(ctx, bson.M{"_id": 0}))
	session := must(client.StartSession())
	defer session.EndSession(ctx)
	check(mongo.WithSession(ctx, session, func(inside mongo.SessionContext) error {
		must(accounts.InsertOne(inside, bson.M{"_id": 1}))
		fmt.Println("session:", must(accounts.CountDocuments(inside, bson.M{})))
		return nil
	}))
	if !set {
		return
	}
	must(session.WithTransaction(ctx, func(inside mongo.SessionContext) (interface{}, error) {
		return accounts.InsertOne(inside, bson.M{"_id": 2})
	}))
	_, err := session.WithTransaction(ctx, func(inside mongo.SessionContext) (interface{}, error) {
		must(accounts.InsertOne(inside, bson.M{"_id": 3}))
		return nil, errors.New("undo")
	})
	fmt.Println("transactions:", must(accounts.CountDocuments(ctx, bson.M{})), err)
	stream := must(accounts.Watch(ctx, mongo.Pipeline{}))
	must(accounts.InsertOne(ctx, bson.M{"_id": 5}))
	stream.Next(ctx)
	fmt.Println("change stream:", stream.Current.Lookup("operationType").StringValue())
	check(stream.Close(ctx))
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Second)
	defer cancel()
	fmt.Println("version:", version.Driver)
	client := connect(ctx, os.Args[1])
	db := client.Database("shop")
	for _, name := range must(db.ListCollectionNames(ctx, bson.M{"name": bson.M{"$regex": "^smoke_"}})) {
		check(db.Collection(name).Drop(ctx))
	}
	documents(ctx, db)
	sessions(ctx, client, db, os.Args[3] == "set")
	everyDeployment(ctx, db)
	if os.Args[3] == "set" {
		ofASet(ctx, client, db)
	}
	var refused mongo.CommandError
	err := client.Database("vault").Collection("secrets").FindOne(ctx, bson.M{}).Err()
	fmt.Println("denied:", errors.As(err, &refused), refused.Code, fmt.Sprintf("%.60s", refused.Message))
	_, err = client.Database("vault").Collection("secrets").InsertOne(ctx, bson.M{})
	fmt.Println("denied write:", refusal(err))
	disconnect(ctx, client)
	stranger := connect(ctx, os.Args[2])
	err = stranger.Database("shop").Collection("smoke_people").FindOne(ctx, bson.M{}).Err()
	fmt.Println("wrong password:", err)
	disconnect(ctx, stranger)
}
