#include "publishers/kafka_publisher.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "publishers/kafka_internal.h"
#include "publishers/kafka_watcher.h"

enum {
    READY_PAUSE_MS = 50, /* after SUBMIT_BUSY, unless a report made room before */
    SLICE_MS = 50,
    LEAVE_MS = 500, /* destroy(): the least that purging and leaving may take */
};

int64_t kafka_now_ms(const struct kafka *kafka)
{
    return clock_monotonic_ms(kafka->clock);
}

void kafka_set_link(struct kafka *kafka, enum link link, const char *reason)
{
    if (kafka->link == link)
        return;
    kafka->link = link;
    if (!kafka->is_closing)
        kafka->base.events.on_state(kafka->base.events.context, link == LINK_UP, reason);
    if (link == LINK_UP)
        kafka->last_error[0] = '\0';
}

enum submit_result kafka_busy(struct kafka *kafka)
{
    if (!kafka->owes_ready) {
        kafka->owes_ready = true;
        kafka->has_room = false;
        kafka->busy_ms = kafka_now_ms(kafka);
    }
    return SUBMIT_BUSY;
}

/* Records that the next batch waits for. */
size_t kafka_in_batches(const struct kafka *kafka)
{
    return kafka->flights.count - kafka->flights.apart;
}

void kafka_settle(struct kafka *kafka, struct record *record)
{
    if (!kafka->is_closing)
        kafka->base.events.on_settled(kafka->base.events.context, record);
}

enum submit_result kafka_settled_now(struct record *record, enum settled_as as, const char *reason)
{
    record->outcome.as = as;
    record->outcome.reason = reason;
    record->outcome.partition = -1;
    record->outcome.offset = -1;
    return SUBMIT_SETTLED;
}

/* Records that were never handed to librdkafka. */
void kafka_settle_all(struct kafka *kafka, struct mailbox_node *node, enum settled_as as,
                      const char *reason)
{
    while (node) {
        struct record *record = container_of(node, struct record, node);

        node = node->next;
        kafka_settled_now(record, as, reason);
        kafka_settle(kafka, record);
    }
}

/* After SUBMIT_BUSY. */
static bool takes_again(const struct kafka *kafka)
{
    int64_t now_us = clock_monotonic_us(kafka->clock);

    return kafka->phase == PHASE_RUNNING &&
           kafka_batches_are_open(&kafka->batches, kafka_in_batches(kafka), now_us) &&
           (kafka->has_room || now_us / 1000 - kafka->busy_ms >= READY_PAUSE_MS);
}

static void serve(struct publisher *self)
{
    struct kafka *kafka = (struct kafka *)self;
    uint64_t count;
    ssize_t n = read(kafka->base.fd, &count, sizeof(count));

    (void)n; /* nothing in it: called by the timer */
    kafka_take_events(kafka);
    kafka_take_answer(kafka);
    kafka_serve_phase(kafka);
    if (kafka->owes_ready && takes_again(kafka)) {
        kafka->owes_ready = false;
        kafka->base.events.on_ready(kafka->base.events.context);
    }
}

/* ---- life ---- */

/* destroy(): takes reports until none is missing or the time is over. */
static void drain(struct kafka *kafka, int64_t until_ms, bool while_up)
{
    while (kafka->flights.count > 0 && kafka_now_ms(kafka) < until_ms) {
        int64_t left_ms = until_ms - kafka_now_ms(kafka);
        rd_kafka_event_t *event =
            rd_kafka_queue_poll(kafka->queue, (int)(left_ms < SLICE_MS ? left_ms : SLICE_MS));

        if (event)
            kafka_take_event(kafka, event);
        kafka_take_answer(kafka);
        kafka_watch_progress(kafka);
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
    end_ms = kafka_now_ms(kafka) + timeout_ms;
    if (kafka->producer) {
        drain(kafka, end_ms - LEAVE_MS, true);
        kafka_purge(kafka);
        drain(kafka, kafka_now_ms(kafka) + LEAVE_MS / 2, false);
        kafka_leave_producer(kafka);
    }
    if (end_ms < kafka_now_ms(kafka) + LEAVE_MS)
        end_ms = kafka_now_ms(kafka) + LEAVE_MS;
    if (kafka->leaving)
        is_gone = kafka_watcher_is_gone(kafka->leaving, end_ms - kafka_now_ms(kafka));
    if (!is_gone)
        log_warn("kafka.leaves_late", log_i64("unsettled", (int64_t)kafka->flights.count),
                 log_str("action", "none needed: the producer ends by itself"));
    is_gone = is_gone || kafka->flights.count == 0;
    kafka_watcher_free(kafka->leaving);
    kafka_flights_release(&kafka->flights);
    kafka_headers_release(&kafka->headers);
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
    else if (kafka_start_producer(kafka, err) == 0)
        return &kafka->base;
    destroy(&kafka->base, 0);
    return NULL;
}

const struct publisher_ops kafka_publisher_ops = {
    .name = "kafka",
    .create = create,
    .submit = kafka_submit,
    .serve = serve,
    .destroy = destroy,
};
