/* loadgen: a closed-loop load generator for a MongoDB server or a proxy in front of one.
 *
 *   cc -O2 loadgen.c -o loadgen $(pkg-config --cflags --libs libmongoc-1.0) -lpthread
 *   loadgen URI DATABASE prepare
 *   loadgen URI DATABASE point|thousand CONNECTIONS SECONDS
 *
 * prepare   (re)makes the collection `docs`: 10,000 documents of about 1 KiB with _id 0 to 9,999
 * point     reads one document by a random _id
 * thousand  reads 1,000 documents, from a random _id on, in one reply of about 1 MB
 *
 * Every connection is a thread with a client of its own, which sends the next command when the reply to the last has
 * come. All log in and warm up before the clock starts. Prints one line of JSON: the operations of the timed part,
 * every latency counted (no histogram), and `operations_with_warm_up` for dividing a server's CPU time.
 * Exits 1 with a sentence on stderr when a command fails or a reply has not as many documents as it must have.
 */
#include <mongoc/mongoc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DOCUMENTS = 10000, BATCH = 1000, PADDING = 1000, WARM_UP_MS = 300 };

typedef struct {
    const char *uri, *database;
    int wanted; /* documents in a reply */
    double seconds;
    pthread_barrier_t *start;
} job_t;

typedef struct {
    const job_t *job;
    uint64_t random;
    uint32_t *latencies; /* microseconds * 10 */
    size_t count, capacity, warm_up; /* warm_up: operations before the clock started, but for the first */
} worker_t;

static void fail(const char *what, const char *why) {
    fprintf(stderr, "loadgen: %s: %s\n", what, why);
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* xorshift64: which document is read need not be unpredictable, only spread. */
static uint64_t next_random(worker_t *worker) {
    uint64_t x = worker->random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return worker->random = x;
}

static mongoc_client_t *connect_to(const char *text) {
    bson_error_t error;
    mongoc_uri_t *uri = mongoc_uri_new_with_error(text, &error);
    if (!uri) fail("the URI", error.message);
    mongoc_client_t *client = mongoc_client_new_from_uri(uri);
    mongoc_uri_destroy(uri);
    if (!client) fail("the URI", "no client can be made of it");
    mongoc_client_set_error_api(client, MONGOC_ERROR_API_VERSION_2);
    return client;
}

static void append_read(bson_t *command, worker_t *worker, int wanted) {
    bson_t filter;
    BSON_APPEND_UTF8(command, "find", "docs");
    BSON_APPEND_DOCUMENT_BEGIN(command, "filter", &filter);
    int32_t id = (int32_t)(next_random(worker) % (uint64_t)(DOCUMENTS - wanted + 1));
    if (wanted == 1) {
        BSON_APPEND_INT32(&filter, "_id", id);
    } else {
        bson_t range;
        BSON_APPEND_DOCUMENT_BEGIN(&filter, "_id", &range);
        BSON_APPEND_INT32(&range, "$gte", id);
        BSON_APPEND_INT32(&range, "$lt", id + wanted);
        bson_append_document_end(&filter, &range);
    }
    bson_append_document_end(command, &filter);
    BSON_APPEND_INT32(command, "limit", wanted);
    BSON_APPEND_INT32(command, "batchSize", wanted);
    BSON_APPEND_BOOL(command, "singleBatch", true);
}

static int documents_in(const bson_t *reply) {
    bson_iter_t top, batch, each;
    int count = 0;
    if (!bson_iter_init(&top, reply) || !bson_iter_find_descendant(&top, "cursor.firstBatch", &batch) ||
        !bson_iter_recurse(&batch, &each))
        return -1;
    while (bson_iter_next(&each)) count++;
    return count;
}

static void read_once(mongoc_client_t *client, worker_t *worker) {
    const job_t *job = worker->job;
    bson_t command = BSON_INITIALIZER, reply;
    bson_error_t error;
    append_read(&command, worker, job->wanted);
    if (!mongoc_client_command_simple(client, job->database, &command, NULL, &reply, &error))
        fail("a read failed", error.message);
    if (documents_in(&reply) != job->wanted) fail("a read", "the reply has not as many documents as it must have");
    bson_destroy(&reply);
    bson_destroy(&command);
}

static void keep(worker_t *worker, uint64_t ns) {
    if (worker->count == worker->capacity) {
        worker->capacity = worker->capacity ? worker->capacity * 2 : 1 << 14;
        worker->latencies = realloc(worker->latencies, worker->capacity * sizeof *worker->latencies);
        if (!worker->latencies) fail("memory", "no more");
    }
    worker->latencies[worker->count++] = (uint32_t)(ns / 100);
}

static void *work(void *argument) {
    worker_t *worker = argument;
    mongoc_client_t *client = connect_to(worker->job->uri);
    read_once(client, worker); /* connects and logs in */
    for (uint64_t end = now_ns() + WARM_UP_MS * 1000000ull; now_ns() < end; worker->warm_up++) read_once(client, worker);
    pthread_barrier_wait(worker->job->start);
    uint64_t before = now_ns(), end = before + (uint64_t)(worker->job->seconds * 1e9);
    while (before < end) {
        read_once(client, worker);
        uint64_t after = now_ns();
        keep(worker, after - before);
        before = after;
    }
    mongoc_client_destroy(client);
    return NULL;
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double percentile(const uint32_t *sorted, size_t count, double p) {
    size_t index = (size_t)(p * (double)count);
    return (double)sorted[index < count ? index : count - 1] / 10.0;
}

static void print_result(worker_t *workers, int connections, double elapsed) {
    size_t count = 0, warm_up = 0;
    for (int i = 0; i < connections; i++) count += workers[i].count, warm_up += workers[i].warm_up;
    uint32_t *all = malloc((count ? count : 1) * sizeof *all);
    if (!all || !count) fail("the run", "no operation ended in time");
    for (size_t i = 0, at = 0; i < (size_t)connections; at += workers[i++].count)
        memcpy(all + at, workers[i].latencies, workers[i].count * sizeof *all);
    qsort(all, count, sizeof *all, by_size);
    printf("{\"operations\": %zu, \"operations_with_warm_up\": %zu, \"seconds\": %.4f, \"per_second\": %.1f, "
           "\"p50_us\": %.1f, \"p95_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f}\n",
           count, count + warm_up, elapsed, (double)count / elapsed, percentile(all, count, 0.50),
           percentile(all, count, 0.95), percentile(all, count, 0.99), (double)all[count - 1] / 10.0);
    free(all);
}

static void run(const job_t *job, int connections) {
    worker_t *workers = calloc((size_t)connections, sizeof *workers);
    pthread_t *threads = calloc((size_t)connections, sizeof *threads);
    if (!workers || !threads) fail("memory", "no more");
    for (int i = 0; i < connections; i++) {
        workers[i].job = job;
        workers[i].random = 0x9e3779b97f4a7c15ull * (uint64_t)(i + 1);
        if (pthread_create(&threads[i], NULL, work, &workers[i])) fail("a thread", "could not be started");
    }
    pthread_barrier_wait(job->start);
    uint64_t begin = now_ns();
    for (int i = 0; i < connections; i++) pthread_join(threads[i], NULL);
    print_result(workers, connections, (double)(now_ns() - begin) / 1e9);
    for (int i = 0; i < connections; i++) free(workers[i].latencies);
    free(workers);
    free(threads);
}

static void prepare(const char *uri, const char *database) {
    char padding[PADDING + 1];
    bson_error_t error;
    mongoc_client_t *client = connect_to(uri);
    mongoc_collection_t *collection = mongoc_client_get_collection(client, database, "docs");
    mongoc_collection_drop(collection, NULL); /* fails when there is none yet */
    for (int first = 0; first < DOCUMENTS; first += BATCH) {
        mongoc_bulk_operation_t *bulk = mongoc_collection_create_bulk_operation_with_opts(collection, NULL);
        for (int id = first; id < first + BATCH; id++) {
            memset(padding, 'a' + id % 26, PADDING);
            padding[PADDING] = 0;
            bson_t *document = BCON_NEW("_id", BCON_INT32(id), "n", BCON_INT32(id), "padding", BCON_UTF8(padding));
            mongoc_bulk_operation_insert(bulk, document);
            bson_destroy(document);
        }
        if (!mongoc_bulk_operation_execute(bulk, NULL, &error)) fail("preparing the documents", error.message);
        mongoc_bulk_operation_destroy(bulk);
    }
    mongoc_collection_destroy(collection);
    mongoc_client_destroy(client);
}

int main(int argc, char **argv) {
    mongoc_init();
    if (argc == 4 && !strcmp(argv[3], "prepare")) {
        prepare(argv[1], argv[2]);
        return 0;
    }
    bool point = argc == 6 && !strcmp(argv[3], "point"), thousand = argc == 6 && !strcmp(argv[3], "thousand");
    int connections = argc == 6 ? atoi(argv[4]) : 0;
    if (!(point || thousand) || connections < 1 || connections > 1000) {
        fprintf(stderr, "usage: loadgen URI DATABASE prepare | point|thousand CONNECTIONS SECONDS\n");
        return 2;
    }
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, (unsigned)connections + 1);
    job_t job = {argv[1], argv[2], point ? 1 : BATCH, atof(argv[5]), &start};
    run(&job, connections);
    return 0;
}
