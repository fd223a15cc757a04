/*
 * When records go to librdkafka: one batch at a time.
 *
 * librdkafka 2.0.2 sends nothing more to a partition while five messages of an idempotent producer
 * are in flight there (it compares the number of messages with a limit that is meant for requests:
 * rd_kafka_toppar_producer_serve), and while other messages wait there beyond linger.ms its thread
 * polls without a pause, at the cost of a whole core. So what would only wait there waits here: a
 * batch takes records for linger.ms, and the next one begins when all of it has been reported on.
 * That makes batches grow with the load, and the broker's work per record shrink.
 *
 * When the brokers are slow the next batch begins all the same, so that one partition without a
 * leader does not hold up the others: soon the first time and later from then on, because
 * with a broker that always takes so long it would cost that core after all.
 *
 * Records of a topic that has not taken any yet are in no batch: a topic that is only being made,
 * or is not there, holds up nobody else. Threads: the dispatcher.
 */
#ifndef PUBLISHERS_KAFKA_BATCHES_H
#define PUBLISHERS_KAFKA_BATCHES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rd_kafka_conf_s;

struct kafka_batches {
    int64_t linger_us;
    int64_t began_us;    /* the newest batch; monotonic */
    int64_t patience_us; /* how long the reports on a batch may take */
};

/* Takes linger.ms from what a producer is going to be made of. */
void kafka_batches_init(struct kafka_batches *batches, const struct rd_kafka_conf_s *conf);

/* Whether a record may be submitted now, while `in_flight` others of batches have not been reported
 * on. */
bool kafka_batches_are_open(const struct kafka_batches *batches, size_t in_flight, int64_t now_us);

/* One is submitted. */
void kafka_batches_add(struct kafka_batches *batches, size_t in_flight, int64_t now_us);

/* All that batches had has been reported on. */
void kafka_batches_end(struct kafka_batches *batches, int64_t now_us);

#endif
