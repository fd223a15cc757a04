/*
 * Threads
 *   dispatcher  everything in this file: delivery reports and errors wait in the producer's queue,
 *               and librdkafka only writes to our eventfd to announce them
 *   watcher     kafka_watcher.c: asks whether a broker answers, destroys producers
 *   librdkafka  kafka_log.c: none of our code but the log callback
 */
#include "publishers/kafka_publisher.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "publishers/kafka_batches.h"
#include "publishers/kafka_errors.h"
#include "publishers/kafka_flights.h"
#include "publishers/kafka_log.h"
#include "publishers/kafka_message.h"
#include "publishers/kafka_options.h"
#include "publishers/kafka_topics.h"
#include "publishers/kafka_watcher.h"
#include "publishers/publisher.h"

enum {
    EVENTS_PER_TURN = 1000,
    READY_PAUSE_MS = 50,  /* after SUBMIT_BUSY, unless a report made room before */
    SUSPECT_MS = 1000,    /* records wait and nothing came for so long: is the broker there? */
    STALL_MS = 300000,    /* nothing moves although a broker answers: a new producer (TRAPS K17) */
    REPORTING_MS = 3000,  /* what an ended producer may take to report by itself ... */
    PURGING_MS = 1000,    /* ... and then to hand back the rest */
    CALM_MS = 60000,      /* a producer that lived so long is replaced at once */
    FIRST_PAUSE_MS = 500, /* before a new producer, doubled up to ... */
    MAX_PAUSE_MS = 4000,  /* ... this while records get through, else up to ... */
    MAX_IDLE_PAUSE_MS = 30000,
    HANGING_MS = 60000, /* between two complaints about a producer that does not go */
    SLICE_MS = 50,
    LEAVE_MS = 500, /* destroy(): the least that purging and leaving may take */
    BATCH_SHRINK = 4,
};

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

static int64_t now_ms(const struct kafka *kafka)
{
    return clock_monotonic_ms(kafka->clock);
}

static void set_link(struct kafka *kafka, enum link link, const char *reason)
{
    if (kafka->link == link)
        return;
    kafka->link = link;
    if (!kafka->is_closing)
        kafka->base.events.on_state(kafka->base.events.context, link == LINK_UP, reason);
    if (link == LINK_UP)
        kafka->last_error[0] = '\0';
}

static enum submit_result busy(struct kafka *kafka)
{
    if (!kafka->owes_ready) {
        kafka->owes_ready = true;
        kafka->has_room = false;
        kafka->busy_ms = now_ms(kafka);
    }
    return SUBMIT_BUSY;
}

static void settle(struct kafka *kafka, struct record *record)
{
    if (!kafka->is_closing)
        kafka->base.events.on_settled(kafka->base.events.context, record);
}

/* ---- producers come and go ---- */

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

static int start_producer(struct kafka *kafka, struct error *err)
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
    kafka->started_ms = now_ms(kafka);
    kafka->moved_ms = kafka->started_ms;
    return 0;
}

/* Hands the producer to its watcher, which destroys it. */
static void leave_producer(struct kafka *kafka)
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

static int64_t next_pause_ms(const struct kafka *kafka)
{
    int64_t max_ms = kafka->has_delivered ? MAX_PAUSE_MS : MAX_IDLE_PAUSE_MS;

    if (kafka->rebuilds == 0 || now_ms(kafka) - kafka->started_ms >= CALM_MS)
        return 0;
    if (kafka->pause_ms == 0)
        return FIRST_PAUSE_MS;
    return kafka->pause_ms * 2 > max_ms ? max_ms : kafka->pause_ms * 2;
}

/* The producer takes nothing any more and is given time to report on what it has. */
static void end_producer(struct kafka *kafka, const char *why, int64_t pause_ms)
{
    if (kafka->phase != PHASE_RUNNING)
        return;
    kafka->pause_ms = pause_ms;
    kafka->rebuilds++;
    kafka->phase = PHASE_REPORTING;
    kafka->deadline_ms = now_ms(kafka) + REPORTING_MS;
    busy(kafka);
    log_warn("kafka.producer_replaced", log_str("error", why),
             log_i64("unsettled", (int64_t)kafka->flights.count),
             log_i64("rebuilds", kafka->rebuilds), log_i64("pause_ms", kafka->pause_ms),
             log_str("action", "a new producer sends again what was not acknowledged"));
}

/* What librdkafka never reported on; only when it cannot read the records' memory any more. */
static void settle_forgotten(struct kafka *kafka)
{
    struct record *record;

    while ((record = kafka_flights_pop(&kafka->flights))) {
        record->outcome.as = SETTLED_RETRY;
        record->outcome.reason = "producer_ended";
        record->outcome.partition = -1;
        settle(kafka, record);
    }
}

static void rebuild(struct kafka *kafka)
{
    struct error err = {0};

    if (start_producer(kafka, &err) == 0)
        return;
    log_error("kafka.no_producer", log_str("error", err.message));
    kafka->deadline_ms = now_ms(kafka) + MAX_IDLE_PAUSE_MS;
}

/* PHASE_ENDED */
static void serve_ended(struct kafka *kafka)
{
    if (kafka->flights.count > 0) {
        if (kafka_watcher_is_gone(kafka->leaving, 0)) {
            settle_forgotten(kafka);
        } else {
            if (now_ms(kafka) < kafka->deadline_ms + HANGING_MS)
                return;
            kafka->deadline_ms = now_ms(kafka);
            log_error("kafka.producer_hangs", log_i64("unsettled", (int64_t)kafka->flights.count),
                      log_str("action", "restart the bridge when this does not end; nothing is "
                                        "lost by that"));
            return;
        }
    }
    if (now_ms(kafka) >= kafka->deadline_ms)
        rebuild(kafka);
}

/* Records wait and nothing comes back. */
static void watch_progress(struct kafka *kafka)
{
    int64_t still_ms = now_ms(kafka) - kafka->moved_ms;

    if (kafka->flights.count == 0 || still_ms < SUSPECT_MS)
        return;
    if (kafka->link == LINK_UP && still_ms >= STALL_MS)
        end_producer(kafka, "no progress for minutes although a broker answers",
                     next_pause_ms(kafka));
    else
        kafka_watcher_ask(kafka->watcher);
}

static void purge(struct kafka *kafka)
{
    rd_kafka_purge(kafka->producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
                                        RD_KAFKA_PURGE_F_NON_BLOCKING);
}

static void serve_phase(struct kafka *kafka)
{
    bool is_over = kafka->flights.count == 0 || now_ms(kafka) >= kafka->deadline_ms;

    switch (kafka->phase) {
    case PHASE_RUNNING:
        watch_progress(kafka);
        break;
    case PHASE_REPORTING:
        if (!is_over)
            break;
        purge(kafka);
        kafka->phase = PHASE_PURGING;
        kafka->deadline_ms = now_ms(kafka) + PURGING_MS;
        break;
    case PHASE_PURGING:
        if (!is_over)
            break;
        leave_producer(kafka);
        kafka->phase = PHASE_ENDED;
        kafka->deadline_ms = now_ms(kafka) + kafka->pause_ms;
        break;
    case PHASE_ENDED:
        serve_ended(kafka);
        break;
    }
}

/* ---- records ---- */

static enum submit_result settled_now(struct record *record, enum settled_as as, const char *reason)
{
    record->outcome.as = as;
    record->outcome.reason = reason;
    record->outcome.partition = -1;
    record->outcome.offset = -1;
    return SUBMIT_SETTLED;
}

/* librdkafka did not take the record. */
static enum submit_result refused(struct kafka *kafka, struct record *record, int code)
{
    const char *reason;
    enum settled_as as = kafka_error_class(code, &reason);

    if (code == RD_KAFKA_RESP_ERR__FATAL)
        end_producer(kafka, "a fatal error of the producer", next_pause_ms(kafka));
    if (as == SETTLED_RETRY)
        return busy(kafka);
    /* It refuses from memory until its metadata is fresh: the topic may be there by now. */
    if (as == SETTLED_DESTINATION_FAULT)
        kafka_watcher_ask(kafka->watcher);
    return settled_now(record, as, reason);
}

static enum submit_result submit(struct publisher *self, struct record *record)
{
    struct kafka *kafka = (struct kafka *)self;
    int64_t now_us = clock_monotonic_us(kafka->clock);
    const char *reason = NULL;
    rd_kafka_topic_t *topic;
    int code;

    if (kafka->phase != PHASE_RUNNING ||
        !kafka_batches_are_open(&kafka->batches, kafka->flights.count, now_us) ||
        !kafka_flights_reserve(&kafka->flights))
        return busy(kafka);
    topic = kafka_topics_find(&kafka->topics, kafka->producer, record->topic, &reason);
    if (!topic)
        return reason ? settled_now(record, SETTLED_DESTINATION_FAULT, reason) : busy(kafka);
    code = kafka_message_produce(kafka->producer, topic, record);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return refused(kafka, record, code);
    if (kafka->flights.count == 0)
        kafka->moved_ms = now_us / 1000;
    kafka_batches_add(&kafka->batches, kafka->flights.count, now_us);
    kafka_flights_add(&kafka->flights, record);
    return SUBMIT_ACCEPTED;
}

/* ---- reports ---- */

static void report(struct kafka *kafka, const rd_kafka_message_t *message, bool was_batch_too_large)
{
    struct record *record = message->_private;

    kafka_flights_remove(&kafka->flights, record);
    record->outcome.as = kafka_error_class(message->err, &record->outcome.reason);
    record->outcome.partition = message->partition >= 0 ? message->partition : -1;
    if (record->outcome.as == SETTLED_DELIVERED) {
        record->outcome.offset = message->offset >= 0 ? message->offset : -1;
        kafka->has_delivered = true;
        kafka->delivered_ms = now_ms(kafka);
        set_link(kafka, LINK_UP, "acknowledges records");
    } else if (was_batch_too_large) {
        record->outcome.as = SETTLED_RETRY;
        record->outcome.reason = "batch_too_large";
    } else if (kafka->watcher && record->outcome.as != SETTLED_RECORD_FAULT) {
        kafka_watcher_ask(kafka->watcher);
    }
    settle(kafka, record);
}

/*
 * A broker judges a batch as a whole: where the topic's limit is below our batch.size, small
 * records are refused with it. They are sent again in smaller batches, until a record is judged
 * alone.
 */
static void shrink_batches(struct kafka *kafka, int64_t bytes)
{
    int64_t smaller = bytes / BATCH_SHRINK > 1 ? bytes / BATCH_SHRINK : 1;

    if (kafka->phase != PHASE_RUNNING)
        return;
    kafka->batch_bytes = smaller;
    log_warn(
        "kafka.batch_too_large", log_i64("batch_bytes", bytes), log_i64("batch_size", smaller),
        log_str("action", "set batch.size below the smallest max.message.bytes of the topics"));
    end_producer(kafka, "a batch was larger than its topic allows", 0);
}

/* An event is the report on one batch. */
static void take_reports(struct kafka *kafka, rd_kafka_event_t *event)
{
    bool is_batch = rd_kafka_event_message_count(event) > 1;
    const rd_kafka_message_t *message;
    int64_t too_large_bytes = 0;

    kafka->moved_ms = now_ms(kafka);
    kafka->has_room = true;
    while ((message = rd_kafka_event_message_next(event))) {
        bool was_batch_too_large = is_batch && message->err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;

        if (was_batch_too_large)
            too_large_bytes += (int64_t)(message->len + message->key_len);
        report(kafka, message, was_batch_too_large);
    }
    if (kafka->flights.count == 0)
        kafka_batches_end(&kafka->batches, clock_monotonic_us(kafka->clock));
    if (too_large_bytes > 0)
        shrink_batches(kafka, too_large_bytes);
}

static void take_error(struct kafka *kafka, rd_kafka_event_t *event)
{
    rd_kafka_resp_err_t code = rd_kafka_event_error(event);
    char message[300] = "";

    if (rd_kafka_event_error_is_fatal(event)) { /* its code is that of the cause */
        rd_kafka_fatal_error(kafka->producer, message, sizeof(message));
        end_producer(kafka, message, next_pause_ms(kafka));
        return;
    }
    if (code != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || kafka->last_error[0] == '\0')
        snprintf(kafka->last_error, sizeof(kafka->last_error), "%s",
                 rd_kafka_event_error_string(event));
    if (kafka->link == LINK_UNKNOWN && code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
        set_link(kafka, LINK_DOWN, kafka->last_error);
    else if (kafka->link == LINK_UP)
        kafka_watcher_ask(kafka->watcher); /* a connection broke: is there another broker? */
}

static void take_event(struct kafka *kafka, rd_kafka_event_t *event)
{
    if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR)
        take_reports(kafka, event);
    else if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
        take_error(kafka, event);
    rd_kafka_event_destroy(event);
}

static void take_events(struct kafka *kafka)
{
    uint64_t one = 1;

    for (int i = 0; i < EVENTS_PER_TURN; i++) {
        rd_kafka_event_t *event = kafka->queue ? rd_kafka_queue_poll(kafka->queue, 0) : NULL;

        if (!event)
            return;
        take_event(kafka, event);
    }
    /* There is more, which librdkafka has announced already. */
    if (write(kafka->base.fd, &one, sizeof(one)) < 0)
        log_error("kafka.eventfd", log_str("error", strerror(errno)));
}

static void take_answer(struct kafka *kafka)
{
    char reason[200];
    enum kafka_answer answer = kafka->watcher
                                   ? kafka_watcher_take(kafka->watcher, reason, sizeof(reason))
                                   : KAFKA_ANSWER_NONE;

    if (answer == KAFKA_ANSWER_UP)
        set_link(kafka, LINK_UP, reason);
    else if (answer == KAFKA_ANSWER_DOWN && kafka->delivered_ms > 0 &&
             now_ms(kafka) - kafka->delivered_ms < KAFKA_PROBE_MS)
        kafka_watcher_ask(kafka->watcher); /* it is slow, but it took records meanwhile */
    else if (answer == KAFKA_ANSWER_DOWN)
        set_link(kafka, LINK_DOWN, kafka->last_error[0] ? kafka->last_error : reason);
}

/* After SUBMIT_BUSY. */
static bool takes_again(const struct kafka *kafka)
{
    int64_t now_us = clock_monotonic_us(kafka->clock);

    return kafka->phase == PHASE_RUNNING &&
           kafka_batches_are_open(&kafka->batches, kafka->flights.count, now_us) &&
           (kafka->has_room || now_us / 1000 - kafka->busy_ms >= READY_PAUSE_MS);
}

static void serve(struct publisher *self)
{
    struct kafka *kafka = (struct kafka *)self;
    uint64_t count;
    ssize_t n = read(kafka->base.fd, &count, sizeof(count));

    (void)n; /* nothing in it: called by the timer */
    take_events(kafka);
    take_answer(kafka);
    serve_phase(kafka);
    if (kafka->owes_ready && takes_again(kafka)) {
        kafka->owes_ready = false;
        kafka->base.events.on_ready(kafka->base.events.context);
    }
}

/* ---- life ---- */

/* destroy(): takes reports until none is missing or the time is over. */
static void drain(struct kafka *kafka, int64_t until_ms, bool while_up)
{
    while (kafka->flights.count > 0 && now_ms(kafka) < until_ms) {
        int64_t left_ms = until_ms - now_ms(kafka);
        rd_kafka_event_t *event =
            rd_kafka_queue_poll(kafka->queue, (int)(left_ms < SLICE_MS ? left_ms : SLICE_MS));

        if (event)
            take_event(kafka, event);
        take_answer(kafka);
        watch_progress(kafka);
        if (while_up && (kafka->link == LINK_DOWN || kafka->phase != PHASE_RUNNING))
            return;
    }
}

static bool destroy(struct publisher *self, int64_t timeout_ms)
{
    struct kafka *kafka = (struct kafka *)self;
    bool is_gone = true;
    int64_t end_ms;

    if (!kafka)
        return true;
    kafka->is_closing = true;
    end_ms = now_ms(kafka) + timeout_ms;
    if (kafka->producer) {
        drain(kafka, end_ms - LEAVE_MS, true);
        purge(kafka);
        drain(kafka, now_ms(kafka) + LEAVE_MS / 2, false);
        leave_producer(kafka);
    }
    if (end_ms < now_ms(kafka) + LEAVE_MS)
        end_ms = now_ms(kafka) + LEAVE_MS;
    if (kafka->leaving)
        is_gone = kafka_watcher_is_gone(kafka->leaving, end_ms - now_ms(kafka));
    if (!is_gone)
        log_warn("kafka.leaves_late", log_i64("unsettled", (int64_t)kafka->flights.count),
                 log_str("action", "none needed: the producer ends by itself"));
    is_gone = is_gone || kafka->flights.count == 0;
    kafka_watcher_free(kafka->leaving);
    kafka_flights_release(&kafka->flights);
    if (kafka->base.fd >= 0)
        close(kafka->base.fd);
    free(kafka);
    return is_gone;
}

static struct publisher *create(const void *options, const struct clock *clock,
                                struct publisher_events events, struct error *err)
{
    struct kafka *kafka = calloc(1, sizeof(*kafka));

    if (!kafka) {
        error_set(err, ERROR_FATAL, "out of memory");
        return NULL;
    }
    kafka->base = (struct publisher){&kafka_publisher_ops, events, -1};
    kafka->options = options;
    kafka->clock = clock;
    kafka->base.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (kafka->base.fd < 0)
        error_set(err, ERROR_TRANSIENT, "cannot make an eventfd: %s", strerror(errno));
    else if (start_producer(kafka, err) == 0)
        return &kafka->base;
    destroy(&kafka->base, 0);
    return NULL;
}

const struct publisher_ops kafka_publisher_ops = {
    .name = "kafka",
    .create = create,
    .submit = submit,
    .serve = serve,
    .destroy = destroy,
};
