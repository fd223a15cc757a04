#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "publishers/kafka_errors.h"
#include "publishers/kafka_internal.h"
#include "publishers/kafka_watcher.h"

enum {
    EVENTS_PER_TURN = 1000,
    BATCH_SHRINK = 4,
};

/*
 * A record that was reported as delivered without an offset: the broker has never acknowledged its
 * batch, but a later one of its partition, or said that it has seen the number. librdkafka takes
 * that for success; a broker that has just begun to lead the partition may have nothing of it
 * (kafka_topics.h). It is sent again, and with it whatever of its topic was in flight, so that the
 * last record of a key comes last.
 */
static void doubt(struct kafka *kafka, struct kafka_topic *topic, struct record *record)
{
    char why[400];

    snprintf(why, sizeof(why), "records of the topic %s were acknowledged without an offset",
             topic->name);
    kafka_topics_doubt(&kafka->topics, topic);
    kafka_end_producer(kafka, why, kafka_next_pause_ms(kafka));
    kafka_settled_now(record, SETTLED_RETRY, "unconfirmed");
}

/* The record's topic when more than the outcome matters of a report on it, else NULL. */
static struct kafka_topic *watched_topic(struct kafka *kafka, const struct record *record)
{
    if (kafka->topics.watched == 0 && record->outcome.offset >= 0)
        return NULL;
    return kafka_topics_get(&kafka->topics, record->topic);
}

/* Often before the watcher has asked it anything. */
static void note_delivery(struct kafka *kafka, const rd_kafka_message_t *message)
{
    char broker[32];

    kafka->has_delivered = true;
    kafka->delivered_ms = kafka_now_ms(kafka);
    if (kafka->link == LINK_UP)
        return;
    snprintf(broker, sizeof(broker), "id %" PRId32, rd_kafka_message_broker_id(message));
    kafka_set_link(kafka, LINK_UP, broker);
}

static void take_outcome(struct kafka *kafka, const rd_kafka_message_t *message,
                         struct record *record)
{
    record->outcome.as = kafka_error_class(message->err, &record->outcome.reason);
    record->outcome.partition = message->partition >= 0 ? message->partition : -1;
    record->outcome.offset =
        message->offset >= 0 && record->outcome.as == SETTLED_DELIVERED ? message->offset : -1;
    if (record->outcome.as == SETTLED_DELIVERED)
        note_delivery(kafka, message);
}

static void report(struct kafka *kafka, const rd_kafka_message_t *message, bool was_batch_too_large)
{
    struct record *record = message->_private;
    struct kafka_topic *topic;
    enum settled_as as;
    const char *reason;

    kafka_flights_remove(&kafka->flights, record);
    take_outcome(kafka, message, record);
    topic = watched_topic(kafka, record);
    if (was_batch_too_large) {
        record->outcome.as = SETTLED_RETRY;
        record->outcome.reason = "batch_too_large";
    } else if (record->outcome.as == SETTLED_DELIVERED) {
        if (topic && (record->outcome.offset < 0 || topic->is_doubtful))
            doubt(kafka, topic, record);
    } else if (kafka->watcher && record->outcome.as != SETTLED_RECORD_FAULT) {
        kafka_watcher_ask(kafka->watcher);
    }
    as = record->outcome.as;
    reason = record->outcome.reason;
    kafka_settle(kafka, record); /* its owner's again */
    if (topic && kafka_topic_is_opening(topic))
        kafka_conclude_opening(kafka, topic, as, reason);
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
    kafka_end_producer(kafka, "a batch was larger than its topic allows", 0);
}

/* An event is the report on one batch. */
static void take_reports(struct kafka *kafka, rd_kafka_event_t *event)
{
    bool is_batch = rd_kafka_event_message_count(event) > 1;
    const rd_kafka_message_t *message;
    int64_t too_large_bytes = 0;

    kafka->moved_ms = kafka_now_ms(kafka);
    kafka->has_room = true;
    while ((message = rd_kafka_event_message_next(event))) {
        bool was_batch_too_large = is_batch && message->err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;

        if (was_batch_too_large)
            too_large_bytes += (int64_t)(message->len + message->key_len);
        report(kafka, message, was_batch_too_large);
        kafka_headers_keep(&kafka->headers, message);
    }
    if (kafka_in_batches(kafka) == 0)
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
        kafka_end_producer(kafka, message, kafka_next_pause_ms(kafka));
        return;
    }
    if (code != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || kafka->last_error[0] == '\0')
        snprintf(kafka->last_error, sizeof(kafka->last_error), "%s",
                 rd_kafka_event_error_string(event));
    if (kafka->link == LINK_UNKNOWN && code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
        kafka_set_link(kafka, LINK_DOWN, kafka->last_error);
    else if (kafka->link == LINK_UP)
        kafka_watcher_ask(kafka->watcher); /* a connection broke: is there another broker? */
}

void kafka_take_event(struct kafka *kafka, rd_kafka_event_t *event)
{
    if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR)
        take_reports(kafka, event);
    else if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
        take_error(kafka, event);
    rd_kafka_event_destroy(event);
}

void kafka_take_events(struct kafka *kafka)
{
    uint64_t one = 1;

    for (int i = 0; i < EVENTS_PER_TURN; i++) {
        rd_kafka_event_t *event = kafka->queue ? rd_kafka_queue_poll(kafka->queue, 0) : NULL;

        if (!event)
            return;
        kafka_take_event(kafka, event);
    }
    /* There is more, which librdkafka has announced already. */
    if (write(kafka->base.fd, &one, sizeof(one)) < 0)
        log_error("kafka.eventfd", log_str("error", strerror(errno)));
}

void kafka_take_answer(struct kafka *kafka)
{
    char reason[200];
    enum kafka_answer answer = kafka->watcher
                                   ? kafka_watcher_take(kafka->watcher, reason, sizeof(reason))
                                   : KAFKA_ANSWER_NONE;

    if (answer == KAFKA_ANSWER_UP)
        kafka_set_link(kafka, LINK_UP, reason);
    else if (answer == KAFKA_ANSWER_DOWN && kafka->delivered_ms > 0 &&
             kafka_now_ms(kafka) - kafka->delivered_ms < KAFKA_PROBE_MS)
        kafka_watcher_ask(kafka->watcher); /* it is slow, but it took records meanwhile */
    else if (answer == KAFKA_ANSWER_DOWN)
        kafka_set_link(kafka, LINK_DOWN, kafka->last_error[0] ? kafka->last_error : reason);
}
