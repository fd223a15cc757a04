/*
 * What the tests of the Kafka publisher share: the publisher against librdkafka's mock cluster, a
 * server that speaks Kafka's protocol on loopback, in this process. Failures assert.
 */
#ifndef TESTS_UNIT_PUBLISHERS_KAFKA_BENCH_H
#define TESTS_UNIT_PUBLISHERS_KAFKA_BENCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "publishers/kafka_publisher.h"
#include "publishers/publisher.h"

enum { MAX_RECORDS = 4000, DEADLINE_MS = 30000, PRODUCE = 0 /* its number in the protocol */ };

struct bench {
    rd_kafka_t *host; /* of the mock cluster */
    rd_kafka_mock_cluster_t *cluster;
    struct publisher *publisher;
    struct kafka_options options;
    struct kafka_property properties[8];
    struct event *event;
    struct record *records;
    rd_kafka_message_t *messages[128]; /* read back */
    size_t message_count;
    int settled;
    int settled_as[4];
    int ready;
    int changes; /* of state */
    bool is_up;
    char reason[256];
};

/* cmocka's setup and teardown: the cluster runs, with the topic leads; no publisher yet. */
int bench_set_up(void **state);
int bench_tear_down(void **state);

/* The publisher's clock, until it is set up again: moved forward, and stopped. */
extern _Atomic int64_t bench_jumped_us;
void bench_stop_clock(void);
void bench_let_clock_run(void);

/* Of librdkafka, before bench_start(); both borrowed. */
void bench_set_property(struct bench *bench, char *name, char *value);

void bench_start(struct bench *bench);
void bench_stop(struct bench *bench, int64_t timeout_ms);

/* A lead's event. Returns owned (event_unref). */
struct event *bench_event(const char *id);

/* The record of that number, made anew: a lead's. */
struct record *bench_record(struct bench *bench, int index);

enum submit_result bench_submit(struct bench *bench, struct record *record);

/* Submits until it is busy or has `count`; returns how many were accepted. */
int bench_submit_many(struct bench *bench, int count);

/* Offers the record, also again after on_ready(), until it is settled. */
void bench_deliver(struct bench *bench, struct record *record);

int64_t bench_now_ms(void);

/* Serves the publisher once, waiting a little for something to do. */
void bench_serve(struct bench *bench);

/* Serves until `condition` holds; fails the test after the deadline. */
#define SERVE_UNTIL(bench, condition)                                                              \
    for (int64_t until_ = bench_now_ms() + DEADLINE_MS; !(condition);) {                           \
        if (bench_now_ms() > until_)                                                               \
            fail_msg("still not: " #condition);                                                    \
        bench_serve(bench);                                                                        \
    }

#endif
