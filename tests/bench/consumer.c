/*
 * A consumer of Kafka that tells how long events were on their way: from when the webhook was due
 * (its id says so, see requests.h) until librdkafka hands the record over here.
 *
 *   bench-consumer BOOTSTRAP TOPIC COUNT SECONDS
 *
 * Reads every partition from its end and prints "ready" once it would see new records, then after
 * COUNT records or SECONDS one JSON object.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include <librdkafka/rdkafka.h>

#include "tests/bench/histogram.h"
#include "tests/bench/requests.h"

enum { SLICE_MS = 100, ASK_MS = 10000 };

struct tally {
    struct histogram latency;
    uint64_t foreign; /* records without an id of the load generator */
};

static _Noreturn void give_up(const char *what, const char *why)
{
    fprintf(stderr, "bench-consumer: %s: %s\n", what, why);
    exit(EX_UNAVAILABLE);
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char why[200];

    if (rd_kafka_conf_set(conf, name, value, why, sizeof(why)) != RD_KAFKA_CONF_OK)
        give_up(name, why);
}

static rd_kafka_t *new_consumer(const char *bootstrap)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_t *consumer;
    char why[200];

    set(conf, "bootstrap.servers", bootstrap);
    set(conf, "group.id", "bench");
    set(conf, "enable.auto.commit", "false");
    set(conf, "fetch.wait.max.ms", "50");
    consumer = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof(why));
    if (!consumer)
        give_up("cannot start", why);
    rd_kafka_poll_set_consumer(consumer);
    return consumer;
}

static int partitions_of(rd_kafka_t *consumer, const char *topic)
{
    rd_kafka_topic_t *handle = rd_kafka_topic_new(consumer, topic, NULL);
    const struct rd_kafka_metadata *metadata;
    rd_kafka_resp_err_t code = rd_kafka_metadata(consumer, 0, handle, &metadata, ASK_MS);
    int count;

    if (code != RD_KAFKA_RESP_ERR_NO_ERROR || metadata->topic_cnt != 1 ||
        metadata->topics[0].partition_cnt == 0)
        give_up(topic, rd_kafka_err2str(code));
    count = metadata->topics[0].partition_cnt;
    rd_kafka_metadata_destroy(metadata);
    rd_kafka_topic_destroy(handle);
    return count;
}

/* Begins where the partitions end now. */
static void begin(rd_kafka_t *consumer, const char *topic)
{
    int count = partitions_of(consumer, topic);
    rd_kafka_topic_partition_list_t *places = rd_kafka_topic_partition_list_new(count);

    for (int i = 0; i < count; i++) {
        int64_t low;
        int64_t high;
        rd_kafka_resp_err_t code =
            rd_kafka_query_watermark_offsets(consumer, topic, i, &low, &high, ASK_MS);

        if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
            give_up(topic, rd_kafka_err2str(code));
        rd_kafka_topic_partition_list_add(places, topic, i)->offset = high;
    }
    rd_kafka_assign(consumer, places);
    rd_kafka_topic_partition_list_destroy(places);
}

static int64_t due_of(const rd_kafka_message_t *message)
{
    static const char prefix[] = "ev_";
    const size_t prefix_size = sizeof(prefix) - 1;
    rd_kafka_headers_t *headers;
    const void *id;
    size_t size;

    if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR ||
        rd_kafka_header_get_last(headers, "ce_closeeventid", &id, &size) !=
            RD_KAFKA_RESP_ERR_NO_ERROR ||
        size < prefix_size || memcmp(id, prefix, prefix_size) != 0)
        return -1;
    return requests_due_ns((const char *)id + prefix_size, size - prefix_size);
}

static void take(struct tally *tally, const rd_kafka_message_t *message)
{
    int64_t due_ns = due_of(message);

    if (due_ns < 0)
        tally->foreign++;
    else
        histogram_add(&tally->latency, requests_now_ns() - due_ns);
}

static void consume(rd_kafka_t *consumer, struct tally *tally, uint64_t count, int64_t end_ns)
{
    while (tally->latency.count < count && requests_now_ns() < end_ns) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, SLICE_MS);

        if (!message)
            continue;
        if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
            take(tally, message);
        rd_kafka_message_destroy(message);
    }
}

int main(int argc, char **argv)
{
    static struct tally tally;
    rd_kafka_t *consumer;

    if (argc != 5) {
        fprintf(stderr, "usage: bench-consumer BOOTSTRAP TOPIC COUNT SECONDS\n");
        return EX_USAGE;
    }
    consumer = new_consumer(argv[1]);
    begin(consumer, argv[2]);
    printf("ready\n");
    fflush(stdout);
    consume(consumer, &tally, strtoull(argv[3], NULL, 10),
            requests_now_ns() + (int64_t)(strtod(argv[4], NULL) * 1e9));
    printf("{\"consumed\": %llu, \"foreign\": %llu, \"latency_us\": ",
           (unsigned long long)tally.latency.count, (unsigned long long)tally.foreign);
    histogram_write(&tally.latency, stdout);
    printf("}\n");
    rd_kafka_destroy(consumer);
    return EX_OK;
}
