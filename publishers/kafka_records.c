#include <librdkafka/rdkafka.h>

#include "bridge/base/clock.h"
#include "publishers/kafka_errors.h"
#include "publishers/kafka_internal.h"
#include "publishers/kafka_message.h"
#include "publishers/kafka_watcher.h"

/* librdkafka did not take the record. */
static enum submit_result refused(struct kafka *kafka, struct record *record, int code)
{
    const char *reason;
    enum settled_as as = kafka_error_class(code, &reason);

    if (code == RD_KAFKA_RESP_ERR__FATAL)
        kafka_end_producer(kafka, "a fatal error of the producer", kafka_next_pause_ms(kafka));
    if (as == SETTLED_RETRY)
        return kafka_busy(kafka);
    /* It refuses from memory until its metadata is fresh: the topic may be there by now. */
    if (as == SETTLED_DESTINATION_FAULT)
        kafka_watcher_ask(kafka->watcher);
    return kafka_settled_now(record, as, reason);
}

static int hand_over(struct kafka *kafka, struct kafka_topic *topic, struct record *record)
{
    int64_t now_us = clock_monotonic_us(kafka->clock);
    int code;

    if (!kafka_flights_reserve(&kafka->flights))
        return RD_KAFKA_RESP_ERR__QUEUE_FULL; /* without memory: later */
    code = kafka_message_produce(kafka->producer, topic->handle, &kafka->headers, record);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return code;
    if (kafka->flights.count == 0)
        kafka->moved_ms = now_us / 1000;
    kafka_batches_add(&kafka->batches, kafka_in_batches(kafka), now_us);
    kafka_flights_add(&kafka->flights, record, !topic->has_taken);
    topic->is_tried = true;
    return code;
}

enum submit_result kafka_submit(struct publisher *self, struct record *record)
{
    struct kafka *kafka = (struct kafka *)self;
    const char *reason = NULL;
    struct kafka_topic *topic;
    int code;

    if (kafka->phase != PHASE_RUNNING ||
        !kafka_batches_are_open(&kafka->batches, kafka_in_batches(kafka),
                                clock_monotonic_us(kafka->clock)))
        return kafka_busy(kafka);
    topic = kafka_topics_find(&kafka->topics, kafka->producer, record->topic, &reason);
    if (!topic)
        return reason ? kafka_settled_now(record, SETTLED_DESTINATION_FAULT, reason)
                      : kafka_busy(kafka);
    if (kafka_topic_is_opening(topic)) {
        kafka_topic_wait(topic, record);
        return SUBMIT_ACCEPTED;
    }
    code = hand_over(kafka, topic, record);
    return code == RD_KAFKA_RESP_ERR_NO_ERROR ? SUBMIT_ACCEPTED : refused(kafka, record, code);
}

/* The topic took its first record: those that wait for that follow. */
static void open_topic(struct kafka *kafka, struct kafka_topic *topic)
{
    struct mailbox_node *node = kafka_topic_take_waiting(topic);

    kafka_topics_take(&kafka->topics, topic);
    while (node) {
        struct record *record = container_of(node, struct record, node);
        struct mailbox_node *next = node->next;
        int code = hand_over(kafka, topic, record);

        if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
            if (refused(kafka, record, code) == SUBMIT_BUSY) {
                kafka_settle_all(kafka, node, SETTLED_RETRY, "queue_full");
                return;
            }
            kafka_settle(kafka, record);
        }
        node = next;
    }
}

/* It is known what became of the record that was tried alone. */
void kafka_conclude_opening(struct kafka *kafka, struct kafka_topic *topic, enum settled_as as,
                            const char *reason)
{
    if (as == SETTLED_DELIVERED) {
        open_topic(kafka, topic);
        return;
    }
    topic->is_tried = false; /* the next one that is offered is tried */
    kafka_settle_all(kafka, kafka_topic_take_waiting(topic),
                     as == SETTLED_RECORD_FAULT ? SETTLED_RETRY : as, reason);
}
