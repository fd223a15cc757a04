/*
 * What the files of the Kafka publisher share. Private to them.
 *
 *   kafka_publisher.c  its life, and what its owner calls
 *   kafka_producer.c   librdkafka's producers, one after the other
 *   kafka_records.c    records on their way to librdkafka
 *   kafka_reports.c    what librdkafka says of them, and of the brokers
 *
 * Threads
 *   dispatcher  everything in these files: delivery reports and errors wait in the producer's
 *               queue, and librdkafka only writes to our eventfd to announce them
 *   watcher     kafka_watcher.c: asks whether a broker answers, destroys producers
 *   librdkafka  kafka_log.c: none of our code but the log callback
 */
#ifndef PUBLISHERS_KAFKA_INTERNAL_H
#define PUBLISHERS_KAFKA_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include <librdkafka/rdkafka.h>

#include "publishers/kafka_batches.h"
#include "publishers/kafka_flights.h"
#include "publishers/kafka_headers.h"
#include "publishers/kafka_topics.h"
#include "publishers/publisher.h"

struct clock;
struct error;
struct kafka_options;
struct kafka_watcher;

enum phase {
    PHASE_RUNNING,
    PHASE_REPORTING, /* ended: reports still come by themselves */
    PHASE_PURGING,   /* ended: the rest was asked back */
    PHASE_ENDED,     /* without a producer */
};

enum link { LINK_UNKNOWN, LINK_UP, LINK_DOWN };

struct kafka {
    struct publisher base;
    const struct kafka_options *options;
    const struct clock *clock;
    rd_kafka_t *producer;    /* NULL in PHASE_ENDED; its watcher destroys it */
    rd_kafka_queue_t *queue; /* of the producer's events */
    struct kafka_watcher *watcher;
    struct kafka_watcher *leaving; /* of the producer before, NULL for none */
    struct kafka_topics topics;
    struct kafka_flights flights;
    struct kafka_headers headers;
    struct kafka_batches batches;
    enum phase phase;
    enum link link;
    char last_error[256]; /* what librdkafka said last, for on_state */
    bool is_closing;      /* destroy(): no more calls to our owner */
    bool owes_ready;      /* submit() answered SUBMIT_BUSY */
    bool has_room;        /* a report came since */
    bool has_delivered;   /* this producer did */
    int64_t busy_ms;
    int64_t moved_ms; /* last report, or first record after none */
    int64_t delivered_ms;
    int64_t started_ms;
    int64_t deadline_ms; /* of the phase; PHASE_ENDED: when to rebuild or complain */
    int64_t pause_ms;
    int64_t batch_bytes; /* 0: as configured */
    int64_t rebuilds;
};

int64_t kafka_now_ms(const struct kafka *kafka);

/* Tells the owner of a change. */
void kafka_set_link(struct kafka *kafka, enum link link, const char *reason);

/* Owes the owner on_ready() from now on. Returns SUBMIT_BUSY. */
enum submit_result kafka_busy(struct kafka *kafka);

/* Records that the next batch waits for. */
size_t kafka_in_batches(const struct kafka *kafka);

/* Sets the outcome of a record that librdkafka does not have. Returns SUBMIT_SETTLED. */
enum submit_result kafka_settled_now(struct record *record, enum settled_as as, const char *reason);

/* Gives a record back to its owner, once its outcome is set ... */
void kafka_settle(struct kafka *kafka, struct record *record);

/* ... and several, linked by their nodes, that librdkafka never had. */
void kafka_settle_all(struct kafka *kafka, struct mailbox_node *node, enum settled_as as,
                      const char *reason);

/* ---- kafka_producer.c ---- */

int kafka_start_producer(struct kafka *kafka, struct error *err);

/* Hands the producer to its watcher, which destroys it. */
void kafka_leave_producer(struct kafka *kafka);

/* Before the producer that follows this one, if it ends now. */
int64_t kafka_next_pause_ms(const struct kafka *kafka);

/* The producer takes nothing any more and is given time to report on what it has. */
void kafka_end_producer(struct kafka *kafka, const char *why, int64_t pause_ms);

/* Asks back what librdkafka has. */
void kafka_purge(struct kafka *kafka);

/* Asks whether a broker answers when records wait and nothing comes back. */
void kafka_watch_progress(struct kafka *kafka);

/* The timers of a producer and of its end. */
void kafka_serve_phase(struct kafka *kafka);

/* ---- kafka_records.c ---- */

/* As in publisher.h. */
enum submit_result kafka_submit(struct publisher *self, struct record *record);

/* It is known what became of the record that was tried alone. */
void kafka_conclude_opening(struct kafka *kafka, struct kafka_topic *topic, enum settled_as as,
                            const char *reason);

/* ---- kafka_reports.c ---- */

/* Takes what the producer's queue has, or one event; destroys it. */
void kafka_take_events(struct kafka *kafka);
void kafka_take_event(struct kafka *kafka, rd_kafka_event_t *event);

/* Takes the watcher's answer, if there is one. */
void kafka_take_answer(struct kafka *kafka);

#endif
