/* loadgen: a closed-loop load generator for a MongoDB server or a proxy in front of one.
 *
 *   cc -O2 loadgen.c -o loadgen $(pkg-config --cflags --libs libmongoc-1.0) -lpthread
 *   loadgen URI DATABASE prepare
 *   loadgen URI DATABASE WORKLOAD CONNECTIONS SECONDS [PID...]
 *
 * prepare     (re)makes the collection `docs`: 10,000 documents of about 1 KiB with _id 0 to 9,999
 * point       reads one document by a random _id
 * thousand    reads 1,000 documents, from a random _id on, in one reply of about 1 MB
 * insertmany  inserts 1,000 documents of about 200 bytes with one command
 * mixed       80 % point reads, 15 % updates of one document by its _id, 5 % inserts of one document
 *
 * Every connection is a thread with a client of its own, which sends the next command when the reply to the last has
 * come. All log in and warm up before the clock starts. Prints one line of JSON: the operations of the timed part,
 * every latency counted (no histogram), and the CPU seconds that each PID used in the timed part.
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
#include <unistd.h>

enum { DOCUMENTS = 10000, BATCH = 1000, PADDING = 1000, SHORT_PADDING = 160, WARM_UP_MS = 300, MAX_PIDS = 32 };

struct client;
struct worker;

typedef struct {
    const char *uri, *database;
    void (*once)(struct client *, struct worker *);
    double seconds;
    pthread_barrier_t *start;
} job_t;

typedef struct worker {
    const job_t *job;
    uint64_t random;
    uint32_t *latencies; /* microseconds * 10 */
    size_t count, capacity;
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
    /* A busy machine must not end a measurement. */
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_CONNECTTIMEOUTMS, 30000);
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, 60000);
    mongoc_uri_set_option_as_bool(uri, MONGOC_URI_SERVERSELECTIONTRYONCE, false);
    mongoc_client_t *client = mongoc_client_new_from_uri(uri);
    mongoc_uri_destroy(uri);
    if (!client) fail("the URI", "no client can be made of it");
    mongoc_client_set_error_api(client, MONGOC_ERROR_API_VERSION_2);
    return client;
}

typedef struct client {
    mongoc_client_t *client;
    mongoc_collection_t *writes;
    bson_t *short_documents[BATCH];
} client_t;

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

static void read_documents(client_t *client, worker_t *worker, int wanted) {
    bson_t command = BSON_INITIALIZER, reply;
    bson_error_t error;
    append_read(&command, worker, wanted);
    if (!mongoc_client_command_simple(client->client, worker->job->database, &command, NULL, &reply, &error))
        fail("a read failed", error.message);
    if (documents_in(&reply) != wanted) fail("a read", "the reply has not as many documents as it must have");
    bson_destroy(&reply);
    bson_destroy(&command);
}

static void read_one(client_t *client, worker_t *worker) { read_documents(client, worker, 1); }

static void read_thousand(client_t *client, worker_t *worker) { read_documents(client, worker, BATCH); }

static void insert_thousand(client_t *client, worker_t *worker) {
    bson_error_t error;
    (void)worker;
    if (!mongoc_collection_insert_many(client->writes, (const bson_t **)client->short_documents, BATCH, NULL, NULL, &error))
        fail("an insert failed", error.message);
}

static void update_one(client_t *client, worker_t *worker) {
    bson_error_t error;
    mongoc_collection_t *docs = mongoc_client_get_collection(client->client, worker->job->database, "docs");
    bson_t *query = BCON_NEW("_id", BCON_INT32((int32_t)(next_random(worker) % DOCUMENTS)));
    bson_t *change = BCON_NEW("$inc", "{", "n", BCON_INT32(1), "}");
    if (!mongoc_collection_update_one(docs, query, change, NULL, NULL, &error)) fail("an update failed", error.message);
    bson_destroy(query);
    bson_destroy(change);
    mongoc_collection_destroy(docs);
}

static void do_mixed(client_t *client, worker_t *worker) {
    bson_error_t error;
    uint64_t choice = next_random(worker) % 100;
    if (choice < 80)
        read_one(client, worker);
    else if (choice < 95)
        update_one(client, worker);
    else if (!mongoc_collection_insert_one(client->writes, client->short_documents[0], NULL, NULL, &error))
        fail("an insert failed", error.message);
}

static client_t *new_client(const job_t *job) {
    char padding[SHORT_PADDING + 1];
    client_t *client = malloc(sizeof *client);
    if (!client) fail("memory", "no more");
    client->client = connect_to(job->uri);
    client->writes = mongoc_client_get_collection(client->client, job->database, "writes");
    memset(padding, 'x', SHORT_PADDING);
    padding[SHORT_PADDING] = 0;
    for (int i = 0; i < BATCH; i++)
        client->short_documents[i] = BCON_NEW("n", BCON_INT32(i), "padding", BCON_UTF8(padding));
    return client;
}

static void end_client(client_t *client) {
    for (int i = 0; i < BATCH; i++) bson_destroy(client->short_documents[i]);
    mongoc_collection_destroy(client->writes);
    mongoc_client_destroy(client->client);
    free(client);
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
    const job_t *job = worker->job;
    client_t *client = new_client(job);
    job->once(client, worker); /* connects and logs in */
    for (uint64_t end = now_ns() + WARM_UP_MS * 1000000ull; now_ns() < end;) job->once(client, worker);
    pthread_barrier_wait(job->start);
    uint64_t before = now_ns(), end = before + (uint64_t)(job->seconds * 1e9);
    while (before < end) {
        job->once(client, worker);
        uint64_t after = now_ns();
        keep(worker, after - before);
        before = after;
    }
    end_client(client);
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

/* utime and stime of a process (proc(5)), in seconds. */
static double cpu_seconds(int pid) {
    char path[64], text[1024];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file) fail(path, "there is no such process");
    size_t size = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[size] = 0;
    char *after_name = strrchr(text, ')');
    if (!after_name || sscanf(after_name + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        fail(path, "not understood");
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static void print_result(worker_t *workers, int connections, double elapsed, const double *cpu, int pids) {
    size_t count = 0;
    for (int i = 0; i < connections; i++) count += workers[i].count;
    uint32_t *all = malloc((count ? count : 1) * sizeof *all);
    if (!all || !count) fail("the run", "no operation ended in time");
    for (size_t i = 0, at = 0; i < (size_t)connections; at += workers[i++].count)
        memcpy(all + at, workers[i].latencies, workers[i].count * sizeof *all);
    qsort(all, count, sizeof *all, by_size);
    printf("{\"operations\": %zu, \"seconds\": %.4f, \"per_second\": %.1f, "
           "\"p50_us\": %.1f, \"p95_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f, \"cpu_seconds\": [",
           count, elapsed, (double)count / elapsed, percentile(all, count, 0.50), percentile(all, count, 0.95),
           percentile(all, count, 0.99), (double)all[count - 1] / 10.0);
    for (int i = 0; i < pids; i++) printf("%s%.2f", i ? ", " : "", cpu[i]);
    printf("]}\n");
    free(all);
}

static void run(const job_t *job, int connections, char **pids, int pid_count) {
    worker_t *workers = calloc((size_t)connections, sizeof *workers);
    pthread_t *threads = calloc((size_t)connections, sizeof *threads);
    double cpu[MAX_PIDS];
    if (!workers || !threads) fail("memory", "no more");
    for (int i = 0; i < connections; i++) {
        workers[i].job = job;
        workers[i].random = 0x9e3779b97f4a7c15ull * (uint64_t)(i + 1);
        if (pthread_create(&threads[i], NULL, work, &workers[i])) fail("a thread", "could not be started");
    }
    pthread_barrier_wait(job->start);
    uint64_t begin = now_ns();
    for (int i = 0; i < pid_count; i++) cpu[i] = -cpu_seconds(atoi(pids[i]));
    for (int i = 0; i < connections; i++) pthread_join(threads[i], NULL);
    double elapsed = (double)(now_ns() - begin) / 1e9;
    for (int i = 0; i < pid_count; i++) cpu[i] += cpu_seconds(atoi(pids[i]));
    print_result(workers, connections, elapsed, cpu, pid_count);
    for (int i = 0; i < connections; i++) free(workers[i].latencies);
    free(workers);
    free(threads);
}

static void drop(mongoc_client_t *client, const char *database, const char *name) {
    mongoc_collection_t *collection = mongoc_client_get_collection(client, database, name);
    mongoc_collection_drop(collection, NULL); /* fails when there is none yet */
    mongoc_collection_destroy(collection);
}

static void prepare(const char *uri, const char *database) {
    char padding[PADDING + 1];
    bson_error_t error;
    mongoc_client_t *client = connect_to(uri);
    mongoc_collection_t *collection = mongoc_client_get_collection(client, database, "docs");
    drop(client, database, "docs");
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
    job_t job = {.uri = argc > 1 ? argv[1] : "", .database = argc > 2 ? argv[2] : ""};
    const struct {
        const char *name;
        void (*once)(client_t *, worker_t *);
    } workloads[] = {{"point", read_one},           {"thousand", read_thousand}, {"insertmany", insert_thousand},
                     {"mixed", do_mixed}};
    for (size_t i = 0; argc >= 6 && i < sizeof workloads / sizeof *workloads; i++)
        if (!strcmp(argv[3], workloads[i].name)) job.once = workloads[i].once;
    int connections = argc >= 6 ? atoi(argv[4]) : 0;
    if (!job.once || connections < 1 || connections > 1000 || argc - 6 > MAX_PIDS) {
        fprintf(stderr, "usage: loadgen URI DATABASE prepare | WORKLOAD CONNECTIONS SECONDS [PID...]\n");
        return 2;
    }
    mongoc_client_t *client = connect_to(job.uri);
    drop(client, job.database, "writes"); /* every run begins with an empty one */
    mongoc_client_destroy(client);
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, (unsigned)connections + 1);
    job.start = &start;
    job.seconds = atof(argv[5]);
    run(&job, connections, argv + 6, argc - 6);
    return 0;
}
