/*
 * An embedded Kafka: librdkafka's mock cluster on a free port of the loopback interface, speaking
 * Kafka's own protocol to every client. Prints "bootstrap.servers=HOST:PORT" and runs until SIGTERM
 * or SIGINT.
 *
 * It keeps at most 5 MiB per partition, in memory: it is for the demo and for faults, not for data.
 */
#include <signal.h>
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
};

static const char usage[] = "usage: mock-kafka [--partitions N] [--topic NAME]...\n";

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
    for (int i = 1; i < argc; i += 2) {
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

static int run(rd_kafka_t *client, const struct options *options, const sigset_t *signals)
{
    rd_kafka_mock_cluster_t *cluster = rd_kafka_mock_cluster_new(client, 1);
    int number;
    int rc = EX_UNAVAILABLE;

    if (!cluster) {
        fprintf(stderr, "mock-kafka: the mock cluster cannot be started\n");
        return EX_UNAVAILABLE;
    }
    if (create_topics(cluster, options) == 0) {
        printf("bootstrap.servers=%s\n", rd_kafka_mock_cluster_bootstraps(cluster));
        fflush(stdout);
        sigwait(signals, &number);
        rc = EX_OK;
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
