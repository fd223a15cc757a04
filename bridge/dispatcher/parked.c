#include "bridge/dispatcher/parked.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/config/config.h"
#include "bridge/dispatcher/saver.h"
#include "bridge/runtime/metrics.h"
#include "schemas/event.h"

enum {
    FIRST_BACK_OFF_MS = 1000,
    MAX_BACK_OFF_MS = 30000,
    BATCH = 64,                      /* records of one topic sent at a time ... */
    BATCH_BYTES = 1024 * 1024,       /* ... and what their events may take, ... */
    MEMORY_BYTES = 16 * 1024 * 1024, /* ... and those of all topics together */
};

struct parked_topic {
    struct parked_topic *next;
    struct parked *parked;
    struct destination *destination; /* holds a reference */
    char reason[64];
    uint64_t count;      /* records in the journal's list */
    size_t being_parked; /* notes on their way to the journal */
    size_t being_sent;   /* records on their way to the broker, or being taken off the list */
    bool has_failed;     /* one of those was refused again */
    bool is_flowing;     /* the first one was taken: send batches */
    int64_t back_off_ms;
    int64_t next_try_ms; /* monotonic */
};

struct parked {
    struct parked_options options;
    struct parked_topic *topics;
    size_t bytes_being_sent;
    struct metric *total;
};

static struct parked_topic *park_topic(struct parked *parked, struct destination *destination,
                                       const char *reason)
{
    struct parked_topic *topic = alloc_zeroed(1, sizeof(*topic));

    topic->parked = parked;
    topic->destination = lane_destination(parked->options.lane, destination->name);
    topic->back_off_ms = FIRST_BACK_OFF_MS;
    topic->next_try_ms = clock_monotonic_ms(parked->options.clock) + FIRST_BACK_OFF_MS;
    snprintf(topic->reason, sizeof(topic->reason), "%s", reason);
    topic->next = parked->topics;
    parked->topics = topic;
    destination->parked = topic;
    log_warn("topic.parked", log_str("publisher", lane_name(parked->options.lane)),
             log_str("topic", destination->name), log_str("reason", reason),
             log_str("action", "its records wait in order and are tried again; other topics flow"));
    return topic;
}

static void visit_topic(void *context, const char *publisher, const char *topic, uint64_t count,
                        int64_t first_ms, const char *reason)
{
    struct parked *parked = context;
    struct destination *destination;

    (void)first_ms;
    if (strcmp(publisher, lane_name(parked->options.lane)) != 0)
        return;
    destination = lane_destination(parked->options.lane, topic);
    park_topic(parked, destination, reason)->count = count;
    metric_add(parked->total, (int64_t)count);
    lane_release_destination(parked->options.lane, destination);
}

struct parked *parked_open(const struct parked_options *options, struct error *err)
{
    struct parked *parked = alloc_zeroed(1, sizeof(*parked));
    char labels[64] = "";

    parked->options = *options;
    metrics_label(labels, sizeof(labels), "publisher", lane_name(options->lane));
    parked->total =
        metrics_get(options->metrics, METRIC_GAUGE, "parked_events",
                    "Records that wait because their topic does not take them.", labels);
    if (journal_visit_parked(options->reader, visit_topic, parked, err) < 0) {
        parked_close(parked);
        return NULL;
    }
    return parked;
}

void parked_set_retry_for(struct parked *parked, int64_t retry_for_ms)
{
    parked->options.retry_for_ms = retry_for_ms;
}

static void free_topic(struct parked *parked, struct parked_topic *topic)
{
    topic->destination->parked = NULL;
    lane_release_destination(parked->options.lane, topic->destination);
    free(topic);
}

void parked_close(struct parked *parked)
{
    if (!parked)
        return;
    while (parked->topics) {
        struct parked_topic *next = parked->topics->next;

        free_topic(parked, parked->topics);
        parked->topics = next;
    }
    free(parked);
}

static void has_parked(struct outgoing *outgoing)
{
    struct parked_topic *topic = outgoing->destination->parked;

    topic->being_parked--;
    topic->count++;
    metric_add(topic->parked->total, 1);
    outgoing->parked(outgoing);
}

void parked_add(struct parked *parked, struct outgoing *outgoing, const char *reason,
                void (*saved)(struct outgoing *outgoing))
{
    struct parked_topic *topic = outgoing->destination->parked;

    if (!topic)
        topic = park_topic(parked, outgoing->destination, reason);
    topic->being_parked++;
    outgoing->parked = saved;
    saver_save(parked->options.saver, outgoing, NOTE_PARK, topic->reason, false, has_parked);
}

/* A record of the list is done with, one way or the other. */
static void let_go(struct parked_topic *topic, struct outgoing *outgoing)
{
    topic->parked->bytes_being_sent -= outgoing->record.event->record->size;
    outgoing_free(outgoing);
    if (--topic->being_sent > 0)
        return;
    topic->is_flowing = !topic->has_failed;
    topic->back_off_ms = !topic->has_failed                         ? FIRST_BACK_OFF_MS
                         : topic->back_off_ms * 2 > MAX_BACK_OFF_MS ? MAX_BACK_OFF_MS
                                                                    : topic->back_off_ms * 2;
    topic->next_try_ms = clock_monotonic_ms(topic->parked->options.clock) +
                         (topic->has_failed ? topic->back_off_ms : 0);
    topic->has_failed = false;
}

static void has_left_the_list(struct outgoing *outgoing)
{
    struct parked_topic *topic = outgoing->owner;

    topic->count--;
    metric_add(topic->parked->total, -1);
    let_go(topic, outgoing);
}

static void leave_list(struct parked_topic *topic, struct outgoing *outgoing, enum note_kind kind,
                       const char *reason)
{
    saver_save(topic->parked->options.saver, outgoing, kind, reason, true, has_left_the_list);
}

static bool is_overdue(const struct parked_topic *topic, const struct outgoing *outgoing)
{
    const struct parked_options *options = &topic->parked->options;

    return clock_wall_ms(options->clock) - outgoing->parked_ms > options->retry_for_ms;
}

static void settled(struct outgoing *outgoing)
{
    struct parked_topic *topic = outgoing->owner;

    switch (outgoing->record.outcome.as) {
    case SETTLED_DELIVERED:
        leave_list(topic, outgoing, NOTE_UNPARK, "delivered");
        return;
    case SETTLED_RECORD_FAULT:
        leave_list(topic, outgoing, NOTE_BURY, outgoing->record.outcome.reason);
        return;
    case SETTLED_DESTINATION_FAULT:
        if (is_overdue(topic, outgoing)) {
            leave_list(topic, outgoing, NOTE_BURY, outgoing->record.outcome.reason);
            return;
        }
        topic->has_failed = true;
        let_go(topic, outgoing);
        return;
    case SETTLED_RETRY:
        lane_resend(topic->parked->options.lane, outgoing);
        return;
    }
}

/* The target that makes this record under the map now in force, or NULL. */
static const struct config_target *find_target(struct parked *parked, const struct letter *letter)
{
    const struct route *routes;
    size_t count =
        router_route(parked->options.router, letter->event, parked->options.publisher, &routes);
    uint32_t nth = 0;

    for (size_t i = 0; i < count; i++) {
        if (!routes[i].topic || strcmp(routes[i].topic, letter->topic) != 0)
            continue;
        if (nth++ == letter->nth)
            return routes[i].target;
    }
    return NULL;
}

static void send_letter(struct parked_topic *topic, struct letter *letter)
{
    struct parked *parked = topic->parked;
    const struct config_target *target = find_target(parked, letter);
    static const struct config_target no_target = {.key = KEY_NONE};
    struct outgoing *outgoing = lane_prepare(parked->options.lane, letter->event,
                                             target ? target : &no_target, letter->topic);

    outgoing->owner = topic;
    outgoing->settled = settled;
    outgoing->seq = letter->id;
    outgoing->nth = letter->nth;
    outgoing->parked_ms = letter->first_ms;
    event_unref(letter->event);
    topic->being_sent++;
    parked->bytes_being_sent += outgoing->record.event->record->size;
    if (target)
        lane_send(parked->options.lane, outgoing);
    else
        leave_list(topic, outgoing, NOTE_BURY, "unrouted");
}

static void send_batch(struct parked_topic *topic)
{
    struct parked *parked = topic->parked;
    struct letter_query query = {.publisher = lane_name(parked->options.lane),
                                 .topic = topic->destination->name,
                                 .max_count = topic->is_flowing ? BATCH : 1,
                                 .max_bytes = BATCH_BYTES};
    struct letter *letters = alloc_zeroed(query.max_count, sizeof(*letters));
    struct error err;
    int count = journal_read_parked(parked->options.reader, &query, letters, &err);

    if (count < 0) {
        log_error("topic.parked_records_unreadable", log_str("topic", topic->destination->name),
                  log_str("error", err.message));
        topic->next_try_ms = clock_monotonic_ms(parked->options.clock) + MAX_BACK_OFF_MS;
    } else if (count == 0) {
        metric_add(parked->total, -(int64_t)topic->count);
        topic->count = 0;
    }
    for (int i = 0; i < count; i++)
        send_letter(topic, &letters[i]);
    free(letters);
}

void parked_run(struct parked *parked)
{
    struct parked_topic **at = &parked->topics;
    int64_t now_ms = clock_monotonic_ms(parked->options.clock);

    while (*at) {
        struct parked_topic *topic = *at;

        if (topic->count == 0 && topic->being_parked == 0 && topic->being_sent == 0) {
            *at = topic->next;
            log_info("topic.resumed", log_str("publisher", lane_name(parked->options.lane)),
                     log_str("topic", topic->destination->name));
            free_topic(parked, topic);
            continue;
        }
        if (topic->being_sent == 0 && topic->count > 0 && now_ms >= topic->next_try_ms &&
            parked->options.saver->missing == 0 && parked->bytes_being_sent < MEMORY_BYTES &&
            !lane_is_busy(parked->options.lane))
            send_batch(topic);
        at = &topic->next;
    }
}
