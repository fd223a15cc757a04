/*
 * Topic handles by name. Producing through a handle reaches a topic's first record in
 * milliseconds, by name it takes a second (TRAPS K1).
 *
 * A topic lives in librdkafka as long as its producer (TRAPS K19), so their number has a limit.
 *
 * Until a topic has taken a record one is tried, and the others wait here in their order. Whether
 * it is there is not known before: a broker may be making it. And a broker that knows nothing of a
 * producer yet takes any of its batches as the first one (KIP-360): when it answers to the first
 * that it does not lead the partition, and takes the second that is in flight behind it, then
 * librdkafka reports both as delivered, and the first one is lost (confluent-kafka-go #921).
 *
 * Threads: the dispatcher.
 */
#ifndef PUBLISHERS_KAFKA_TOPICS_H
#define PUBLISHERS_KAFKA_TOPICS_H

#include <stdbool.h>
#include <stddef.h>

enum { KAFKA_TOPIC_BUCKETS = 1024, KAFKA_TOPICS_MAX = 10000 };

struct mailbox_node;
struct rd_kafka_s;
struct rd_kafka_topic_s;
struct record;

struct kafka_topic {
    struct kafka_topic *next;
    struct rd_kafka_topic_s *handle;
    struct mailbox_node *first_waiting; /* records, linked by their nodes */
    struct mailbox_node *last_waiting;
    bool is_tried;    /* a record is on its way, or was */
    bool has_taken;   /* a record */
    bool is_doubtful; /* it may not have what was acknowledged */
    char name[];
};

/* Zero-initialised it is empty. */
struct kafka_topics {
    struct kafka_topic *buckets[KAFKA_TOPIC_BUCKETS];
    size_t count;
    size_t watched; /* those that have taken nothing or are doubtful: reports on them matter */
};

/*
 * Finds the topic or makes it; it stays owned by `topics`. NULL: `out_reason` is the stable code
 * of a destination's fault, or itself NULL when memory is short.
 */
struct kafka_topic *kafka_topics_find(struct kafka_topics *topics, struct rd_kafka_s *producer,
                                      const char *name, const char **out_reason);

/* NULL when it is none of these. */
struct kafka_topic *kafka_topics_get(const struct kafka_topics *topics, const char *name);

/* It took a record. */
void kafka_topics_take(struct kafka_topics *topics, struct kafka_topic *topic);

/* A record was reported as delivered that it may not have. */
void kafka_topics_doubt(struct kafka_topics *topics, struct kafka_topic *topic);

/* True while one record is to be tried alone. */
bool kafka_topic_is_opening(const struct kafka_topic *topic);

/* Borrows the record until it is taken back. */
void kafka_topic_wait(struct kafka_topic *topic, struct record *record);

/* Those of one topic, or of all, in their order; NULL for none. */
struct mailbox_node *kafka_topic_take_waiting(struct kafka_topic *topic);
struct mailbox_node *kafka_topics_take_waiting(struct kafka_topics *topics);

/* Gives up every handle, and what waits: before their producer is destroyed. */
void kafka_topics_clear(struct kafka_topics *topics);

#endif
