/* What libmongoc can do beyond CRUD. What makes a server fail once is told to the deployment itself, as its administrator
 * (DRIVER_ADMIN_URI): the tested user may not.
 */
#include "features.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const bson_t *next_of(mongoc_cursor_t *cursor, const char *part) {
    const bson_t *document;
    bool found = mongoc_cursor_next(cursor, &document);
    if (!found) mongoc_cursor_error(cursor, &error);
    must(found, part);
    return document;
}

static int id_of(const bson_t *document, const char *path) {
    bson_iter_t iter, found;
    must(bson_iter_init(&iter, document) && bson_iter_find_descendant(&iter, path, &found), path);
    return bson_iter_as_int64(&found);
}

static int finished(mongoc_cursor_t *cursor) {
    const bson_t *document;
    int seen = 0;
    while (mongoc_cursor_next(cursor, &document)) seen++;
    must(!mongoc_cursor_error(cursor, &error), "cursor");
    mongoc_cursor_destroy(cursor);
    return seen;
}

/* The code of a refused read of another database; 0 when it was not refused. */
static int refused_read(mongoc_client_t *client, const bson_t *options) {
    mongoc_collection_t *secrets = mongoc_client_get_collection(client, "vault", "secrets");
    bson_t *all = bson_new();
    mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(secrets, all, options, NULL);
    const bson_t *document;
    while (mongoc_cursor_next(cursor, &document));
    int code = mongoc_cursor_error(cursor, &error) ? error.code : 0;
    mongoc_cursor_destroy(cursor);
    bson_destroy(all);
    mongoc_collection_destroy(secrets);
    return code;
}

int refused_write(mongoc_client_t *client, const bson_t *options) {
    mongoc_collection_t *secrets = mongoc_client_get_collection(client, "vault", "secrets");
    int code = insert(secrets, 1, options) ? 0 : error.code;
    mongoc_collection_destroy(secrets);
    return code;
}

/* The server closes the connection on which the command comes, once. NULL: never any more, and one has failed since. */
static void fail_once(const char *command) {
    static int64_t before;
    bson_t reply;
    bson_iter_t iter;
    mongoc_client_t *admin = connect_to(getenv("DRIVER_ADMIN_URI"));
    bson_t *fail = command ? BCON_NEW("configureFailPoint", "failCommand", "mode", "{", "times", BCON_INT32(1), "}", "data", "{",
                                      "failCommands", "[", BCON_UTF8(command), "]", "closeConnection", BCON_BOOL(true), "}")
                           : BCON_NEW("configureFailPoint", "failCommand", "mode", "off");
    must(mongoc_client_command_simple(admin, "admin", fail, NULL, &reply, &error), "fail point");
    must(bson_iter_init_find(&iter, &reply, "count"), "count");
    must(command || bson_iter_as_int64(&iter) > before, "a command that has not failed has shown nothing");
    before = bson_iter_as_int64(&iter);
    bson_destroy(&reply);
    bson_destroy(fail);
    mongoc_client_destroy(admin);
}

static void tailable(mongoc_client_t *client) {
    mongoc_collection_t *capped = emptied(client, "smoke_capped");
    bson_t *options = BCON_NEW("capped", BCON_BOOL(true), "size", BCON_INT32(100000));
    mongoc_database_t *db = mongoc_client_get_database(client, "shop");
    mongoc_collection_destroy(mongoc_database_create_collection(db, "smoke_capped", options, &error));
    must(insert(capped, 1, NULL), "insert");
    bson_t *all = bson_new();
    bson_t *wait = BCON_NEW("tailable", BCON_BOOL(true), "awaitData", BCON_BOOL(true), "maxAwaitTimeMS", BCON_INT64(500));
    mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(capped, all, wait, NULL);
    int first = id_of(next_of(cursor, "tailable"), "_id");
    const bson_t *none;
    must(!mongoc_cursor_next(cursor, &none) && !mongoc_cursor_error(cursor, &error), "the end of a capped collection");
    must(insert(capped, 2, NULL), "insert");
    printf("tailable: %d %d\n", first, id_of(next_of(cursor, "tailable"), "_id"));
    mongoc_cursor_destroy(cursor);
    bson_destroy(options);
    bson_destroy(all);
    bson_destroy(wait);
    mongoc_database_destroy(db);
    mongoc_collection_destroy(capped);
}

void every_deployment(mongoc_client_t *client) {
    tailable(client);
    bson_t *all = bson_new();
    mongoc_client_t *overheard = connect_to(getenv("DRIVER_OVERHEARD_URI"));
    mongoc_collection_t *numbers = mongoc_client_get_collection(overheard, "shop", "smoke_numbers");
    printf("compression: %d\n", finished(mongoc_collection_find_with_opts(numbers, all, NULL, NULL)));
    mongoc_collection_destroy(numbers);
    mongoc_client_destroy(overheard);

    mongoc_client_t *strict = connect_to(getenv("DRIVER_URI"));
    mongoc_server_api_t *api = mongoc_server_api_new(MONGOC_SERVER_API_V1);
    mongoc_server_api_strict(api, true);
    must(mongoc_client_set_server_api(strict, api, &error), "stable API");
    mongoc_collection_t *capped = mongoc_client_get_collection(strict, "shop", "smoke_capped");
    int seen = finished(mongoc_collection_find_with_opts(capped, all, NULL, NULL));
    bson_t *distinct = BCON_NEW("distinct", BCON_UTF8("smoke_capped"), "key", BCON_UTF8("_id"));
    int refused = mongoc_client_command_simple(strict, "shop", distinct, NULL, NULL, &error) ? 0 : error.code;
    printf("stable API: %d %d %d\n", seen, refused, refused_read(strict, NULL));
    bson_destroy(distinct);
    bson_destroy(all);
    mongoc_server_api_destroy(api);
    mongoc_collection_destroy(capped);
    mongoc_client_destroy(strict);
}

static void retries(mongoc_client_t *client) {
    mongoc_collection_t *kept = emptied(client, "smoke_retries");
    bson_t *all = bson_new();
    fail_once("insert");
    must(insert(kept, 1, NULL), "a write that is tried again");
    fail_once(NULL);
    fail_once("find");
    int found = finished(mongoc_collection_find_with_opts(kept, all, NULL, NULL));
    fail_once(NULL);
    char text[4096];
    snprintf(text, sizeof text, "%s&retryWrites=false", getenv("DRIVER_URI"));
    mongoc_client_t *once = connect_to(text);
    mongoc_collection_t *lost = mongoc_client_get_collection(once, "shop", "smoke_retries");
    fail_once("insert");
    bool written = insert(lost, 2, NULL);
    bool cut = error.domain == MONGOC_ERROR_STREAM;
    fail_once(NULL);
    printf("retries: %lld %d %d %d\n", (long long) counted(kept), found, written, cut);
    mongoc_collection_destroy(lost);
    mongoc_client_destroy(once);
    bson_destroy(all);
    mongoc_collection_destroy(kept);
}

typedef struct {
    mongoc_collection_t *moved;
    int calls;
} move_t;

static bool move(mongoc_client_session_t *session, void *context, bson_t **reply, bson_error_t *failure) {
    move_t *own = context;
    bson_t *options = bson_new();
    bson_t *document = BCON_NEW("_id", BCON_INT32(++own->calls));
    *reply = bson_new();
    bool done = mongoc_client_session_append(session, options, failure) &&
                mongoc_collection_insert_one(own->moved, document, options, *reply, failure);
    bson_destroy(document);
    bson_destroy(options);
    return done;
}

static void transactions(mongoc_client_t *client) {
    mongoc_collection_t *moved = emptied(client, "smoke_moved");
    must(insert(moved, 0, NULL), "insert");
    mongoc_client_session_t *session = mongoc_client_start_session(client, NULL, &error);
    move_t own = {moved, 0};
    fail_once("insert");
    must(mongoc_client_session_with_transaction(session, move, NULL, &own, NULL, &error), "with transaction");
    fail_once(NULL);
    int tried = own.calls;
    fail_once("commitTransaction");
    must(mongoc_client_session_with_transaction(session, move, NULL, &own, NULL, &error), "with transaction");
    fail_once(NULL);
    printf("with transaction: %d %d %lld\n", tried, own.calls, (long long) counted(moved));

    bson_t *options = bson_new();
    must(mongoc_client_session_append(session, options, &error), "session");
    must(mongoc_client_session_start_transaction(session, NULL, &error), "start");
    must(insert(moved, 10, options), "insert in a transaction");
    int read = refused_read(client, options), write = refused_write(client, options);
    int end = mongoc_client_session_commit_transaction(session, NULL, &error) ? 0 : error.code;
    printf("denied in a transaction: %d %d %d %lld\n", read, write, end, (long long) counted(moved));
    bson_destroy(options);
    mongoc_client_session_destroy(session);
    mongoc_collection_destroy(moved);
}

static const bson_t *event_of(mongoc_change_stream_t *stream) {
    const bson_t *event;
    for (int tries = 0; tries < 20; tries++) {
        if (mongoc_change_stream_next(stream, &event)) return event;
        must(!mongoc_change_stream_error_document(stream, &error, &event), "change stream");
    }
    must(false, "no event");
    return NULL;
}

static void resumed(mongoc_client_t *client) {
    mongoc_collection_t *watched = emptied(client, "smoke_watched");
    bson_t *pipeline = bson_new();
    bson_t *options = BCON_NEW("maxAwaitTimeMS", BCON_INT64(500));
    mongoc_change_stream_t *stream = mongoc_collection_watch(watched, pipeline, options);
    const bson_t *event;
    must(!mongoc_change_stream_next(stream, &event), "an empty stream");
    must(insert(watched, 1, NULL), "insert");
    event_of(stream);
    BSON_APPEND_DOCUMENT(options, "resumeAfter", mongoc_change_stream_get_resume_token(stream));
    mongoc_change_stream_destroy(stream);
    must(insert(watched, 2, NULL), "insert");
    stream = mongoc_collection_watch(watched, pipeline, options);
    int second = id_of(event_of(stream), "documentKey._id");
    fail_once("getMore");
    must(insert(watched, 3, NULL), "insert");
    int third = id_of(event_of(stream), "documentKey._id");
    fail_once(NULL);
    mongoc_change_stream_destroy(stream);
    mongoc_collection_t *secrets = mongoc_client_get_collection(client, "vault", "secrets");
    stream = mongoc_collection_watch(secrets, pipeline, NULL);
    bool refused = !mongoc_change_stream_next(stream, &event) && mongoc_change_stream_error_document(stream, &error, &event);
    printf("resumed: %d %d %d\n", second, third, refused ? (int) error.code : 0);
    mongoc_change_stream_destroy(stream);
    mongoc_collection_destroy(secrets);
    mongoc_collection_destroy(watched);
    bson_destroy(options);
    bson_destroy(pipeline);
}

static void consistent(mongoc_client_t *client, bool snapshot) {
    const char *name = snapshot ? "smoke_snapshot" : "smoke_causal";
    mongoc_collection_t *seen = emptied(client, name);
    mongoc_write_concern_t *majority = mongoc_write_concern_new();
    mongoc_write_concern_set_wmajority(majority, 10000);
    mongoc_collection_set_write_concern(seen, majority);
    mongoc_session_opt_t *kind = mongoc_session_opts_new();
    if (snapshot) mongoc_session_opts_set_snapshot(kind, true);
    else mongoc_session_opts_set_causal_consistency(kind, true);
    bson_t *options = bson_new();
    bson_t *all = bson_new();
    mongoc_client_session_t *session = mongoc_client_start_session(client, kind, &error);
    must(session && mongoc_client_session_append(session, options, &error), "session");
    must(insert(seen, 1, snapshot ? NULL : options), "insert");
    int before = finished(mongoc_collection_find_with_opts(seen, all, options, NULL));
    if (snapshot) {
        must(insert(seen, 2, NULL), "insert");
        int again = finished(mongoc_collection_find_with_opts(seen, all, options, NULL));
        printf("snapshot: %d %d %lld %d\n", before, again, (long long) counted(seen), refused_read(client, options));
    } else {
        printf("causal: %d %d\n", before, mongoc_client_session_get_cluster_time(session) != NULL);
    }
    mongoc_client_session_destroy(session);
    mongoc_session_opts_destroy(kind);
    mongoc_write_concern_destroy(majority);
    bson_destroy(options);
    bson_destroy(all);
    mongoc_collection_destroy(seen);
}

void of_a_set(mongoc_client_t *client) {
    retries(client);
    transactions(client);
    resumed(client);
    consistent(client, false);
    consistent(client, true);
}
