/* What an application does with libmongoc. Usage: smoke_c URI WRONG_URI set|standalone
 * Prints a line for each part: its name, a colon, what was found. Ends with 1 at the first surprise.
 */
#include "features.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bson_error_t error;

void must(bool done, const char *part) {
    if (!done) {
        printf("failed: %s %d %s\n", part, error.code, error.message);
        exit(1);
    }
}

mongoc_client_t *connect_to(const char *text) {
    mongoc_uri_t *uri = mongoc_uri_new_with_error(text, &error);
    must(uri != NULL, "uri");
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, 10000);
    mongoc_client_t *client = mongoc_client_new_from_uri(uri);
    mongoc_client_set_error_api(client, MONGOC_ERROR_API_VERSION_2);
    mongoc_uri_destroy(uri);
    return client;
}

mongoc_collection_t *emptied(mongoc_client_t *client, const char *name) {
    mongoc_collection_t *collection = mongoc_client_get_collection(client, "shop", name);
    mongoc_collection_drop(collection, NULL);
    return collection;
}

int64_t counted(mongoc_collection_t *collection) {
    bson_t *all = bson_new();
    int64_t count = mongoc_collection_count_documents(collection, all, NULL, NULL, NULL, &error);
    must(count >= 0, "count");
    bson_destroy(all);
    return count;
}

bool insert(mongoc_collection_t *collection, int id, const bson_t *options) {
    bson_t *document = BCON_NEW("_id", BCON_INT32(id), "name", BCON_UTF8("Ada"));
    bool done = mongoc_collection_insert_one(collection, document, options, NULL, &error);
    bson_destroy(document);
    return done;
}

static void documents(mongoc_client_t *client) {
    mongoc_collection_t *people = emptied(client, "smoke_people");
    must(insert(people, 1, NULL) && insert(people, 2, NULL), "insert");
    bson_t *first = BCON_NEW("_id", BCON_INT32(1));
    bson_t *change = BCON_NEW("$set", "{", "seen", BCON_BOOL(true), "}");
    must(mongoc_collection_update_one(people, first, change, NULL, NULL, &error), "update");
    must(mongoc_collection_delete_one(people, first, NULL, NULL, &error), "delete");
    printf("crud: %lld\n", (long long) counted(people));
    bool twice = insert(people, 2, NULL);
    printf("duplicate: %d %d\n", twice, error.code);

    mongoc_collection_t *numbers = emptied(client, "smoke_numbers");
    mongoc_bulk_operation_t *bulk = mongoc_collection_create_bulk_operation_with_opts(numbers, NULL);
    for (int n = 0; n < 500; n++) {
        bson_t *document = BCON_NEW("_id", BCON_INT32(n));
        must(mongoc_bulk_operation_insert_with_opts(bulk, document, NULL, &error), "bulk");
        bson_destroy(document);
    }
    bson_t reply;
    must(mongoc_bulk_operation_execute(bulk, &reply, &error), "bulk");
    bson_iter_t iter;
    must(bson_iter_init_find(&iter, &reply, "nInserted"), "nInserted");
    printf("bulk: %d\n", bson_iter_int32(&iter));
    bson_destroy(&reply);
    mongoc_bulk_operation_destroy(bulk);

    bson_t *all = bson_new();
    bson_t *batches = BCON_NEW("batchSize", BCON_INT32(50));
    mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(numbers, all, batches, NULL);
    const bson_t *document;
    int seen = 0;
    while (mongoc_cursor_next(cursor, &document)) seen++;
    must(!mongoc_cursor_error(cursor, &error), "cursor");
    printf("cursors: %d\n", seen);
    mongoc_cursor_destroy(cursor);

    bson_t *pipeline = BCON_NEW("pipeline", "[", "{", "$group", "{", "_id", BCON_NULL, "sum", "{", "$sum",
                                BCON_UTF8("$_id"), "}", "}", "}", "]");
    cursor = mongoc_collection_aggregate(numbers, MONGOC_QUERY_NONE, pipeline, NULL, NULL);
    must(mongoc_cursor_next(cursor, &document), "aggregate");
    char *text = bson_as_relaxed_extended_json(document, NULL);
    printf("aggregation: %s\n", text);
    bson_free(text);
    mongoc_cursor_destroy(cursor);

    bson_t *index = BCON_NEW("createIndexes", BCON_UTF8("smoke_people"), "indexes", "[", "{", "key", "{", "name",
                             BCON_INT32(1), "}", "name", BCON_UTF8("name_1"), "}", "]");
    must(mongoc_client_write_command_with_opts(client, "shop", index, NULL, NULL, &error), "index");
    cursor = mongoc_collection_find_indexes_with_opts(people, NULL);
    for (seen = 0; mongoc_cursor_next(cursor, &document);) seen++;
    printf("indexes: %d\n", seen);
    mongoc_cursor_destroy(cursor);
    bson_destroy(first);
    bson_destroy(change);
    bson_destroy(all);
    bson_destroy(batches);
    bson_destroy(pipeline);
    bson_destroy(index);
    mongoc_collection_destroy(people);
    mongoc_collection_destroy(numbers);
}

static void sessions(mongoc_client_t *client, bool set) {
    mongoc_collection_t *accounts = emptied(client, "smoke_accounts");
    must(insert(accounts, 0, NULL), "insert");
    mongoc_client_session_t *session = mongoc_client_start_session(client, NULL, &error);
    must(session != NULL, "session");
    bson_t *options = bson_new();
    must(mongoc_client_session_append(session, options, &error), "session");
    must(insert(accounts, 1, options), "insert in a session");
    printf("session: %lld\n", (long long) counted(accounts));
    if (set) {
        must(mongoc_client_session_start_transaction(session, NULL, &error), "start");
        must(insert(accounts, 2, options), "insert in a transaction");
        must(mongoc_client_session_commit_transaction(session, NULL, &error), "commit");
        must(mongoc_client_session_start_transaction(session, NULL, &error), "start");
        must(insert(accounts, 3, options), "insert in a transaction");
        must(mongoc_client_session_abort_transaction(session, &error), "abort");
        printf("transactions: %lld\n", (long long) counted(accounts));
        bson_t *pipeline = bson_new();
        bson_t *wait = BCON_NEW("maxAwaitTimeMS", BCON_INT64(200));
        mongoc_change_stream_t *stream = mongoc_collection_watch(accounts, pipeline, wait);
        const bson_t *event;
        must(!mongoc_change_stream_next(stream, &event), "an empty stream");
        must(insert(accounts, 4, NULL), "insert");
        bson_iter_t iter;
        must(mongoc_change_stream_next(stream, &event) && bson_iter_init_find(&iter, event, "operationType"), "stream");
        printf("change stream: %s\n", bson_iter_utf8(&iter, NULL));
        mongoc_change_stream_destroy(stream);
        bson_destroy(pipeline);
        bson_destroy(wait);
    }
    bson_destroy(options);
    mongoc_client_session_destroy(session);
    mongoc_collection_destroy(accounts);
}

static int refused(mongoc_client_t *client, const char *db, char *text) {
    bson_t *command = BCON_NEW("find", BCON_UTF8("secrets"));
    bool done = mongoc_client_command_simple(client, db, command, NULL, NULL, &error);
    must(!done, "this should have been refused");
    snprintf(text, 60, "%.59s", error.message);
    bson_destroy(command);
    return error.code;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    char text[60];
    mongoc_init();
    printf("version: %s\n", mongoc_get_version());
    mongoc_client_t *client = connect_to(argv[1]);
    documents(client);
    bool set = strcmp(argv[3], "set") == 0;
    sessions(client, set);
    every_deployment(client);
    if (set) of_a_set(client);
    int code = refused(client, "vault", text);
    printf("denied: %d %s\n", code, text);
    printf("denied write: %d\n", refused_write(client, NULL));
    mongoc_client_destroy(client);
    client = connect_to(argv[2]);
    code = refused(client, "shop", text);
    printf("wrong password: %d %s\n", code, text);
    mongoc_client_destroy(client);
    mongoc_cleanup();
    return 0;
}
