/*
 * The load generator: posts signed webhooks with fresh event ids over keep-alive connections and
 * says how fast they were answered. See --help.
 */
#include <arpa/inet.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

#include "bridge/base/error.h"
#include "bridge/base/text.h"
#include "bridge/base/thread.h"
#include "tests/bench/load_worker.h"
#include "tests/bench/requests.h"

#define KEY_VARIABLE "CLOSE_SIGNATURE_KEY"

enum { MAX_THREADS = 16, SETTLE_MS = 200, SECOND_MS = 1000, FOR_EVER_S = 1000000 };

struct options {
    const char *host;
    unsigned port;
    const char *path;
    unsigned connections;
    unsigned threads;
    double seconds;
    uint64_t count;
    double rate;
    unsigned char key[REQUESTS_KEY_SIZE];
    char *const *bodies;
    size_t body_count;
};

static const char usage[] =
    "usage: bench-load --port N [OPTION]... BODY...\n"
    "\n"
    "Posts the bodies in these files in turn, each with a fresh event id and signed with the hex "
    "key\n"
    "in the environment variable " KEY_VARIABLE ". Writes one JSON object to standard output.\n"
    "\n"
    "  --host ADDRESS       IPv4, default 127.0.0.1\n"
    "  --port N\n"
    "  --path PATH          default /webhooks/main\n"
    "  --connections N      default 64\n"
    "  --threads N          default 1\n"
    "  --seconds S          how long requests are sent\n"
    "  --count N            how many are sent; with both, whatever comes first\n"
    "  --rate R             requests a second, at even intervals; without it a closed loop: every\n"
    "                       connection sends its next request when it has an answer\n"
    "\n"
    "Exit codes: 0 done, 64 usage, 65, 66 a body, 69 the server cannot be reached.\n";

static _Noreturn void misuse(const char *sentence)
{
    fprintf(stderr, "bench-load: %s; see --help\n", sentence);
    exit(EX_USAGE);
}

static double number_of(const char *text)
{
    char *end;
    double number = strtod(text, &end);

    if (*text == '\0' || *end != '\0' || number < 0)
        misuse("an option is not a number");
    return number;
}

static void take_option(struct options *options, int option, const char *value)
{
    switch (option) {
    case 'H':
        options->host = value;
        break;
    case 'p':
        options->port = (unsigned)number_of(value);
        break;
    case 'a':
        options->path = value;
        break;
    case 'c':
        options->connections = (unsigned)number_of(value);
        break;
    case 't':
        options->threads = (unsigned)number_of(value);
        break;
    case 's':
        options->seconds = number_of(value);
        break;
    case 'n':
        options->count = (uint64_t)number_of(value);
        break;
    case 'r':
        options->rate = number_of(value);
        break;
    case 'h':
        fputs(usage, stdout);
        exit(EX_OK);
    default:
        misuse("there is no such option");
    }
}

static void read_key(struct options *options)
{
    const char *hex = getenv(KEY_VARIABLE);

    if (!hex || !text_from_hex(text_of(hex), options->key, sizeof(options->key)))
        misuse(KEY_VARIABLE " does not hold a key of 64 hex digits");
}

static void read_options(struct options *options, int argc, char **argv)
{
    static const struct option names[] = {
        {"host", required_argument, NULL, 'H'},    {"port", required_argument, NULL, 'p'},
        {"path", required_argument, NULL, 'a'},    {"connections", required_argument, NULL, 'c'},
        {"threads", required_argument, NULL, 't'}, {"seconds", required_argument, NULL, 's'},
        {"count", required_argument, NULL, 'n'},   {"rate", required_argument, NULL, 'r'},
        {"help", no_argument, NULL, 'h'},          {0}};
    int option;

    *options = (struct options){
        .host = "127.0.0.1", .path = "/webhooks/main", .connections = 64, .threads = 1};
    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1)
        take_option(options, option, optarg);
    options->bodies = argv + optind;
    options->body_count = (size_t)(argc - optind);
    if (options->body_count == 0 || options->port == 0 || options->port > 65535)
        misuse("it needs --port and a body");
    if (options->seconds == 0 && options->count == 0)
        misuse("it needs --seconds or --count");
    if (options->threads == 0 || options->threads > MAX_THREADS ||
        options->connections < options->threads)
        misuse("it needs 1 to 16 threads and at least as many connections");
    if (options->seconds == 0)
        options->seconds = FOR_EVER_S;
    if (options->count == 0)
        options->count = UINT64_MAX;
    read_key(options);
}

/* ---- threads ---- */

/* The share of thread `i` in a whole. */
static uint64_t share(uint64_t whole, unsigned threads, unsigned i)
{
    return whole / threads + (i < whole % threads);
}

static void prepare(struct load_worker *worker, const struct options *options, unsigned i,
                    int64_t start_ns)
{
    double interval_ns = options->rate > 0 ? 1e9 / options->rate : 0;

    worker->address.sin_family = AF_INET;
    worker->address.sin_port = htons((uint16_t)options->port);
    if (inet_pton(AF_INET, options->host, &worker->address.sin_addr) != 1)
        misuse("--host is not an IPv4 address");
    worker->requests =
        requests_new(options->bodies, options->body_count, options->path, options->key, i);
    worker->connection_count = (unsigned)share(options->connections, options->threads, i);
    worker->interval_ns = interval_ns * options->threads;
    worker->start_ns = start_ns;
    worker->first_due_ns = start_ns + (int64_t)(interval_ns * i);
    worker->end_ns = start_ns + (int64_t)(options->seconds * 1e9);
    worker->budget =
        options->count == UINT64_MAX ? UINT64_MAX : share(options->count, options->threads, i);
}

static void start(pthread_t *thread, struct load_worker *worker)
{
    struct error err;

    if (thread_start(thread, "load", load_worker_run, worker, &err) == 0)
        return;
    fprintf(stderr, "bench-load: %s\n", err.message);
    exit(EX_OSERR);
}

static uint64_t answered(struct load_worker *workers, unsigned count)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < count; i++)
        sum += atomic_load_explicit(&workers[i].answered, memory_order_relaxed);
    return sum;
}

/* On a terminal, once a second, until the workers have ended. */
static void show_progress(pthread_t *threads, struct load_worker *workers, unsigned count)
{
    uint64_t before = 0;

    if (!isatty(STDERR_FILENO))
        return;
    while (pthread_tryjoin_np(threads[0], NULL) != 0) {
        uint64_t now = answered(workers, count);

        fprintf(stderr, "\r%12llu answered, %8llu/s ", (unsigned long long)now,
                (unsigned long long)(now - before));
        before = now;
        usleep(SECOND_MS * 1000);
    }
    fprintf(stderr, "\r%40s\r", "");
    threads[0] = 0;
}

/* ---- the result ---- */

static double cpu_seconds(void)
{
    struct rusage used;

    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void merge(struct load_worker *into, const struct load_worker *from)
{
    histogram_merge(&into->latency, &from->latency);
    for (int i = 0; i < LOAD_STATUSES; i++)
        into->statuses[i] += from->statuses[i];
    into->broken += from->broken;
    into->unanswered += from->unanswered;
    into->bytes += from->bytes;
    if (from->last_ns > into->last_ns)
        into->last_ns = from->last_ns;
}

static void write_result(const struct load_worker *all, int64_t start_ns, double cpu_s)
{
    double seconds = (double)(all->last_ns - start_ns) / 1e9;
    uint64_t count = all->latency.count;
    const char *comma = "";

    printf("{\"answered\": %llu, \"seconds\": %.4f, \"rate\": %.1f, ", (unsigned long long)count,
           seconds, seconds > 0 ? (double)count / seconds : 0.0);
    printf("\"bytes\": %llu, \"broken\": %llu, \"unanswered\": %llu, ",
           (unsigned long long)all->bytes, (unsigned long long)all->broken,
           (unsigned long long)all->unanswered);
    printf("\"cpu_us\": %.3f, \"statuses\": {", count ? cpu_s * 1e6 / (double)count : 0.0);
    for (int i = 0; i < LOAD_STATUSES; i++) {
        if (!all->statuses[i])
            continue;
        printf("%s\"%d\": %llu", comma, i, (unsigned long long)all->statuses[i]);
        comma = ", ";
    }
    printf("}, \"latency_us\": ");
    histogram_write(&all->latency, stdout);
    printf("}\n");
}

int main(int argc, char **argv)
{
    static struct load_worker workers[MAX_THREADS];
    static struct load_worker all;
    pthread_t threads[MAX_THREADS];
    struct options options;
    int64_t start_ns;
    double cpu_s;

    read_options(&options, argc, argv);
    start_ns = requests_now_ns() + (int64_t)SETTLE_MS * 1000000;
    for (unsigned i = 0; i < options.threads; i++)
        prepare(&workers[i], &options, i, start_ns);
    cpu_s = cpu_seconds();
    for (unsigned i = 0; i < options.threads; i++)
        start(&threads[i], &workers[i]);
    show_progress(threads, workers, options.threads);
    for (unsigned i = 0; i < options.threads; i++) {
        if (threads[i])
            pthread_join(threads[i], NULL);
        merge(&all, &workers[i]);
        requests_free(workers[i].requests);
    }
    write_result(&all, start_ns, cpu_seconds() - cpu_s);
    return EX_OK;
}
