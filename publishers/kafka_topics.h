/*
 * Topic handles by name. Producing through a handle reaches a topic's first record in
 * milliseconds, by name it takes a second (TRAPS K1).
 *
 * A topic lives in librdkafka as long as its producer (TRAPS K19), so their number has a limit.
 *
 * Threads: the dispatcher.
 */
#ifndef PUBLISHERS_KAFKA_TOPICS_H
#define PUBLISHERS_KAFKA_TOPICS_H

#include <stddef.h>

enum { KAFKA_TOPIC_BUCKETS = 1024, KAFKA_TOPICS_MAX = 10000 };

struct kafka_topic;
struct rd_kafka_s;
struct rd_kafka_topic_s;

/* Zero-initialised it is empty. */
struct kafka_topics {
    struct kafka_topic *buckets[KAFKA_TOPIC_BUCKETS];
    size_t count;
};

/*
 * Finds the handle or makes it; it stays owned by `topics`. NULL: `out_reason` is the stable code
 * of a destination's fault, or itself NULL when memory is short.
 */
struct rd_kafka_topic_s *kafka_topics_find(struct kafka_topics *topics, struct rd_kafka_s *producer,
                                           const char *name, const char **out_reason);

/* Gives up every handle: before their producer is destroyed. */
void kafka_topics_clear(struct kafka_topics *topics);

#endif
