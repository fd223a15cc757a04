/*
 * Looks after Kafka topics: which of them are there, which take our largest records, how long they
 * keep them. Creates those that are missing, when it is to. Through librdkafka's admin API, with a
 * client of its own, so that no producer waits for it.
 *
 * It asks about topics in a way that does not make an auto-creating broker create them (TRAPS K8).
 *
 * Threads: none of its own; it blocks, so it is for a thread that may wait.
 */
#ifndef PUBLISHERS_KAFKA_ADMIN_H
#define PUBLISHERS_KAFKA_ADMIN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct error;
struct kafka_options;
struct kafka_property;

struct kafka_topic_options {
    bool are_created;              /* missing ones */
    uint32_t partitions;           /* 0: the broker's default */
    uint32_t replication_factor;   /* 0: the broker's default */
    struct kafka_property *config; /* of new topics; max.message.bytes is ours unless it is here */
    size_t config_count;
};

enum kafka_topic_state {
    KAFKA_TOPIC_PRESENT,
    KAFKA_TOPIC_CREATED,
    KAFKA_TOPIC_MISSING,     /* and not to be created */
    KAFKA_TOPIC_NOT_CREATED, /* `detail` says why */
    KAFKA_TOPIC_TOO_SMALL,   /* it refuses records that we may have to send */
    KAFKA_TOPIC_STATES
};

struct kafka_topic_report {
    const char *name; /* borrowed from whoever asks */
    enum kafka_topic_state state;
    char detail[240]; /* a sentence, but for KAFKA_TOPIC_PRESENT and KAFKA_TOPIC_CREATED */
};

/* "present", "created", "missing", "not_created", "too_small" */
const char *kafka_topic_state_name(enum kafka_topic_state state);

/*
 * Fills `state` and `detail` of every report; `name` is set. Takes at most about `timeout_ms`, less
 * once `is_cancelled` is set. -1: no broker answers (ERROR_TRANSIENT), or it was cancelled.
 */
int kafka_admin_look(const struct kafka_options *options, const struct kafka_topic_options *topics,
                     struct kafka_topic_report *reports, size_t count, int64_t timeout_ms,
                     const atomic_bool *is_cancelled, struct error *err);

enum kafka_keeping {
    KAFKA_KEEPS_FOR,      /* `retention_ms` */
    KAFKA_KEEPS_FOREVER,  /* as far as time goes: no limit, or only compaction */
    KAFKA_KEEPS_NOTHING,  /* it is not there */
    KAFKA_KEEPING_UNKNOWN /* mostly not for us to see: `detail` says why */
};

/* How long a topic keeps its records (retention.ms, cleanup.policy). */
struct kafka_topic_keeping {
    const char *name; /* borrowed from whoever asks */
    enum kafka_keeping keeping;
    int64_t retention_ms;
    bool is_stamped_by_broker; /* counted from when it was written, whatever date a record has */
    char detail[160];
};

/* Fills all but `name` of every one. Time and result as of kafka_admin_look(). */
int kafka_admin_keeping(const struct kafka_options *options, struct kafka_topic_keeping *topics,
                        size_t count, int64_t timeout_ms, const atomic_bool *is_cancelled,
                        struct error *err);

#endif
