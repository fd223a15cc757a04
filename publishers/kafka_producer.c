#include <signal.h>
#include <stdlib.h>

#include <librdkafka/rdkafka.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "publishers/kafka_internal.h"
#include "publishers/kafka_log.h"
#include "publishers/kafka_options.h"
#include "publishers/kafka_watcher.h"

enum {
    SUSPECT_MS = 1000,    /* records wait and nothing came for so long: is the broker there? */
    STALL_MS = 300000,    /* nothing moves although a broker answers: a new producer (TRAPS K17) */
    REPORTING_MS = 3000,  /* what an ended producer may take to report by itself ... */
    PURGING_MS = 1000,    /* ... and then to hand back the rest */
    CALM_MS = 60000,      /* a producer that lived so long is replaced at once */
    FIRST_PAUSE_MS = 500, /* before a new producer, doubled up to ... */
    MAX_PAUSE_MS = 2000,  /* ... this while records get through, else up to ... */
    MAX_IDLE_PAUSE_MS = 10000,
    HANGING_MS = 60000, /* between two complaints about a producer that does not go */
};

/* librdkafka's threads inherit the signal mask (TRAPS K20). */
static rd_kafka_t *new_producer(rd_kafka_conf_t *conf, struct error *err)
{
    char message[300];
    rd_kafka_t *producer;
    sigset_t all;
    sigset_t old;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, message, sizeof(message));
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!producer) {
        rd_kafka_conf_destroy(conf);
        error_set(err, ERROR_CONFIG, "%s", message);
    }
    return producer;
}

int kafka_start_producer(struct kafka *kafka, struct error *err)
{
    rd_kafka_conf_t *conf = kafka_options_conf(kafka->options, kafka->batch_bytes, err);
    uint64_t one = 1;

    if (!conf)
        return -1;
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
    rd_kafka_conf_set_log_cb(conf, kafka_log_line);
    kafka_batches_init(&kafka->batches, conf);
    kafka->producer = new_producer(conf, err);
    if (!kafka->producer)
        return -1;
    kafka->watcher = kafka_watcher_start(kafka->producer, kafka->base.fd, err);
    if (!kafka->watcher) {
        rd_kafka_destroy(kafka->producer);
        kafka->producer = NULL;
        return -1;
    }
    kafka->queue = rd_kafka_queue_get_main(kafka->producer);
    rd_kafka_queue_io_event_enable(kafka->queue, kafka->base.fd, &one, sizeof(one));
    kafka->phase = PHASE_RUNNING;
    kafka->has_delivered = false;
    kafka->started_ms = kafka_now_ms(kafka);
    kafka->moved_ms = kafka->started_ms;
    return 0;
}

/* Hands the producer to its watcher, which destroys it. */
void kafka_leave_producer(struct kafka *kafka)
{
    kafka_topics_clear(&kafka->topics);
    rd_kafka_queue_io_event_enable(kafka->queue, -1, NULL, 0);
    rd_kafka_queue_destroy(kafka->queue);
    kafka->queue = NULL;
    kafka->producer = NULL;
    kafka_watcher_free(kafka->leaving);
    kafka->leaving = kafka->watcher;
    kafka->watcher = NULL;
    kafka_watcher_end(kafka->leaving);
}

int64_t kafka_next_pause_ms(const struct kafka *kafka)
{
    int64_t max_ms = kafka->has_delivered ? MAX_PAUSE_MS : MAX_IDLE_PAUSE_MS;

    if (kafka->rebuilds == 0 || kafka_now_ms(kafka) - kafka->started_ms >= CALM_MS)
        return 0;
    if (kafka->pause_ms == 0)
        return FIRST_PAUSE_MS;
    return kafka->pause_ms * 2 > max_ms ? max_ms : kafka->pause_ms * 2;
}

/* The producer takes nothing any more and is given time to report on what it has. */
void kafka_end_producer(struct kafka *kafka, const char *why, int64_t pause_ms)
{
    if (kafka->phase != PHASE_RUNNING)
        return;
    kafka->pause_ms = pause_ms;
    kafka->rebuilds++;
    kafka->phase = PHASE_REPORTING;
    kafka->deadline_ms = kafka_now_ms(kafka) + REPORTING_MS;
    kafka_busy(kafka);
    log_warn("kafka.producer_replaced", log_str("error", why),
             log_i64("unsettled", (int64_t)kafka->flights.count),
             log_i64("rebuilds", kafka->rebuilds), log_i64("pause_ms", kafka->pause_ms),
             log_str("action", "a new producer sends again what was not acknowledged"));
    kafka_settle_all(kafka, kafka_topics_take_waiting(&kafka->topics), SETTLED_RETRY,
                     "producer_ended");
}

/* What librdkafka never reported on; only when it cannot read the records' memory any more. */
static void settle_forgotten(struct kafka *kafka)
{
    struct record *record;

    while ((record = kafka_flights_pop(&kafka->flights))) {
        record->outcome.as = SETTLED_RETRY;
        record->outcome.reason = "producer_ended";
        record->outcome.partition = -1;
        kafka_settle(kafka, record);
    }
}

static void rebuild(struct kafka *kafka)
{
    struct error err = {0};

    if (kafka_start_producer(kafka, &err) == 0)
        return;
    log_error("kafka.no_producer", log_str("error", err.message));
    kafka->deadline_ms = kafka_now_ms(kafka) + MAX_IDLE_PAUSE_MS;
}

/* PHASE_ENDED */
static void serve_ended(struct kafka *kafka)
{
    if (kafka->flights.count > 0) {
        if (kafka_watcher_is_gone(kafka->leaving, 0)) {
            settle_forgotten(kafka);
        } else {
            if (kafka_now_ms(kafka) < kafka->deadline_ms + HANGING_MS)
                return;
            kafka->deadline_ms = kafka_now_ms(kafka);
            log_error("kafka.producer_hangs", log_i64("unsettled", (int64_t)kafka->flights.count),
                      log_str("action", "restart the bridge when this does not end; nothing is "
                                        "lost by that"));
            return;
        }
    }
    if (kafka_now_ms(kafka) >= kafka->deadline_ms)
        rebuild(kafka);
}

/* Records wait and nothing comes back. */
void kafka_watch_progress(struct kafka *kafka)
{
    int64_t still_ms = kafka_now_ms(kafka) - kafka->moved_ms;

    if (kafka->flights.count == 0 || still_ms < SUSPECT_MS)
        return;
    if (kafka->link == LINK_UP && still_ms >= STALL_MS)
        kafka_end_producer(kafka, "no progress for minutes although a broker answers",
                           kafka_next_pause_ms(kafka));
    else
        kafka_watcher_ask(kafka->watcher);
}

void kafka_purge(struct kafka *kafka)
{
    rd_kafka_purge(kafka->producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
                                        RD_KAFKA_PURGE_F_NON_BLOCKING);
}

void kafka_serve_phase(struct kafka *kafka)
{
    bool is_over = kafka->flights.count == 0 || kafka_now_ms(kafka) >= kafka->deadline_ms;

    switch (kafka->phase) {
    case PHASE_RUNNING:
        kafka_watch_progress(kafka);
        break;
    case PHASE_REPORTING:
        if (!is_over)
            break;
        kafka_purge(kafka);
        kafka->phase = PHASE_PURGING;
        kafka->deadline_ms = kafka_now_ms(kafka) + PURGING_MS;
        break;
    case PHASE_PURGING:
        if (!is_over)
            break;
        kafka_leave_producer(kafka);
        kafka->phase = PHASE_ENDED;
        kafka->deadline_ms = kafka_now_ms(kafka) + kafka->pause_ms;
        break;
    case PHASE_ENDED:
        serve_ended(kafka);
        break;
    }
}
