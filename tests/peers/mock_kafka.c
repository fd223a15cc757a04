/*
 * An embedded Kafka: librdkafka's mock cluster on a free port of the loopback interface, speaking
 * Kafka's own protocol to every client. Prints "bootstrap.servers=HOST:PORT" and runs until SIGTERM
 * or SIGINT.
 *
 * With --control it obeys lines on standard input, answers each with "ok", and runs until it ends:
 *     errors API CODE COUNT    the next COUNT requests of that API key fail with CODE
 *     clear API                no more of them
 *     topic NAME CODE          requests for the topic fail with CODE; 0: no more
 *     down, up                 the broker refuses connections, or takes them again
 *     rtt MS                   every answer takes so long
 *
 * It keeps at most 5 MiB per partition, in memory: it is for the demo and for faults, not for data.
 */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

enum { MAX_TOPICS = 256, MAX_PARTITIONS = 1000 };

struct options {
    int partitions; /* of the topics that are named; others get librdkafka's default when first used
                     */
    const char *topics[MAX_TOPICS];
    size_t topic_count;
    bool is_controlled;
};

static const char usage[] = "usage: mock-kafka [--control] [--partitions N] [--topic NAME]...\n";

static int read_partitions(const char *text, struct options *options)
{
    char *end;
    long number = strtol(text, &end, 10);

    if (*text == '\0' || *end != '\0' || number < 1 || number > MAX_PARTITIONS) {
        fprintf(stderr, "mock-kafka: --partitions %s: not a number between 1 and %d\n", text,
                MAX_PARTITIONS);
        return -1;
    }
    options->partitions = (int)number;
    return 0;
}

static int read_options(int argc, char **argv, struct options *options)
{
    int first = argc > 1 && strcmp(argv[1], "--control") == 0 ? 2 : 1;

    options->is_controlled = first == 2;
    for (int i = first; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;

        if (value && strcmp(argv[i], "--partitions") == 0) {
            if (read_partitions(value, options) < 0)
                return -1;
        } else if (value && strcmp(argv[i], "--topic") == 0 && options->topic_count < MAX_TOPICS) {
            options->topics[options->topic_count++] = value;
        } else {
            fprintf(stderr, "mock-kafka: %s: not understood\n%s", argv[i], usage);
            return -1;
        }
    }
    return 0;
}

static int create_topics(rd_kafka_mock_cluster_t *cluster, const struct options *options)
{
    for (size_t i = 0; i < options->topic_count; i++) {
        rd_kafka_resp_err_t code =
            rd_kafka_mock_topic_create(cluster, options->topics[i], options->partitions, 1);

        if (code) {
            fprintf(stderr, "mock-kafka: topic %s: %s\n", options->topics[i],
                    rd_kafka_err2str(code));
            return -1;
        }
    }
    return 0;
}

static int push_errors(rd_kafka_mock_cluster_t *cluster, int api, int code, int count)
{
    rd_kafka_resp_err_t *codes = calloc((size_t)count, sizeof(*codes));

    if (!codes)
        return -1;
    for (int i = 0; i < count; i++)
        codes[i] = (rd_kafka_resp_err_t)code;
    rd_kafka_mock_push_request_errors_array(cluster, (int16_t)api, (size_t)count, codes);
    free(codes);
    return 0;
}

/* -1: not understood. */
static int obey(rd_kafka_mock_cluster_t *cluster, const char *line)
{
    char name[250];
    int api;
    int code;
    int count;

    if (sscanf(line, "errors %d %d %d", &api, &code, &count) == 3 && count > 0)
        return push_errors(cluster, api, code, count);
    if (sscanf(line, "clear %d", &api) == 1)
        rd_kafka_mock_clear_request_errors(cluster, (int16_t)api);
    else if (sscanf(line, "topic %249s %d", name, &code) == 2)
        rd_kafka_mock_topic_set_error(cluster, name, (rd_kafka_resp_err_t)code);
    else if (strcmp(line, "down\n") == 0)
        rd_kafka_mock_broker_set_down(cluster, 1);
    else if (strcmp(line, "up\n") == 0)
        rd_kafka_mock_broker_set_up(cluster, 1);
    else if (sscanf(line, "rtt %d", &count) == 1)
        rd_kafka_mock_broker_set_rtt(cluster, 1, count);
    else
        return -1;
    return 0;
}

static int obey_all(rd_kafka_mock_cluster_t *cluster)
{
    char line[512];

    while (fgets(line, sizeof(line), stdin)) {
        if (obey(cluster, line) < 0) {
            fprintf(stderr, "mock-kafka: %s: not understood\n", line);
            return EX_USAGE;
        }
        printf("ok\n");
        fflush(stdout);
    }
    return EX_OK;
}

static int wait_for_signal(const sigset_t *signals)
{
    int number;

    sigwait(signals, &number);
    return EX_OK;
}

static int run(rd_kafka_t *client, const struct options *options, const sigset_t *signals)
{
    rd_kafka_mock_cluster_t *cluster = rd_kafka_mock_cluster_new(client, 1);
    int rc = EX_UNAVAILABLE;

    if (!cluster) {
        fprintf(stderr, "mock-kafka: the mock cluster cannot be started\n");
        return EX_UNAVAILABLE;
    }
    if (create_topics(cluster, options) == 0) {
        printf("bootstrap.servers=%s\n", rd_kafka_mock_cluster_bootstraps(cluster));
        fflush(stdout);
        rc = options->is_controlled ? obey_all(cluster) : wait_for_signal(signals);
    }
    rd_kafka_mock_cluster_destroy(cluster);
    return rc;
}

/* A client that connects to nothing: the cluster needs one for its threads and its log. */
static rd_kafka_t *new_client(char *reason, size_t reason_size)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_t *client = NULL;

    if (rd_kafka_conf_set(conf, "log_level", "3", reason, reason_size) == RD_KAFKA_CONF_OK)
        client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, reason, reason_size);
    if (!client)
        rd_kafka_conf_destroy(conf);
    return client;
}

int main(int argc, char **argv)
{
    struct options options = {.partitions = 4};
    rd_kafka_t *client;
    sigset_t signals;
    char reason[256];
    int rc;

    if (read_options(argc, argv, &options) < 0)
        return EX_USAGE;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL); /* before librdkafka's threads, which inherit it */
    client = new_client(reason, sizeof(reason));
    if (!client) {
        fprintf(stderr, "mock-kafka: %s\n", reason);
        return EX_UNAVAILABLE;
    }
    rc = run(client, &options, &signals);
    rd_kafka_destroy(client);
    return rc;
}
