#include "bridge/dispatcher/replay_part.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/dispatcher/lane.h"
#include "bridge/runtime/metrics.h"
#include "schemas/event.h"

enum {
    MAX_ON_THE_WAY = 256,        /* records of one publisher ... */
    MAX_BYTES = 2 * 1024 * 1024, /* ... and, but for the first, the size of their events */
    TURN_EVENTS = 32,
    READ_AGAIN_MS = 1000,
};

/* An event whose records are on their way. */
struct replayed {
    struct replayed *next;
    struct replay_part *part;
    int64_t received_ms;
    uint32_t size;
    size_t left; /* records not settled */
};

/* ---- what came of a record ---- */

static struct replay_fault *find_fault(struct replay_job *job, const struct replay_part *part,
                                       const char *topic, const char *reason)
{
    struct replay_fault *fault = job->faults;

    for (; fault < job->faults + job->fault_count; fault++) {
        if (fault->publisher == part->publisher && strcmp(fault->topic, topic) == 0 &&
            strcmp(fault->reason, reason) == 0)
            return fault;
    }
    return NULL;
}

static struct replay_fault *new_fault(struct replay_job *job, const struct replay_part *part,
                                      const char *topic, const char *reason, int64_t received_ms)
{
    struct replay_fault *fault;

    if (job->fault_count == REPLAY_FAULTS)
        return NULL;
    fault = &job->faults[job->fault_count++];
    *fault = (struct replay_fault){
        .publisher = part->publisher, .reason = reason, .first_ms = received_ms};
    snprintf(fault->topic, sizeof(fault->topic), "%s", topic);
    if (job->request.is_dry_run)
        return fault;
    log_warn("replay.record_failed", log_str("publisher", lane_name(part->lane)),
             log_str("topic", topic), log_str("reason", reason),
             log_str("action", "counted; neither parked nor a dead letter"));
    return fault;
}

static void count_failed(struct replay_part *part, const char *topic, const char *reason,
                         int64_t received_ms)
{
    struct replay_job *job = part->job;
    struct replay_fault *fault = find_fault(job, part, topic, reason);

    part->counts.failed++;
    metric_add(part->failed, !job->request.is_dry_run);
    if (!fault)
        fault = new_fault(job, part, topic, reason, received_ms);
    job->faults_have_changed = true;
    if (!fault) {
        job->unlisted++;
        return;
    }
    fault->count++;
    fault->last_ms = received_ms;
}

/* Events leave in their order, so that everything before the first one left is known. */
static void forget_settled(struct replay_part *part)
{
    while (part->first && part->first->left == 0) {
        struct replayed *replayed = part->first;

        part->first = replayed->next;
        if (!part->first)
            part->last = NULL;
        free(replayed);
    }
    part->counts.reached_ms = part->first ? part->first->received_ms : part->taken_ms;
}

static void release(struct outgoing *outgoing)
{
    struct replayed *replayed = outgoing->owner;
    struct replay_part *part = replayed->part;

    outgoing_free(outgoing);
    part->on_the_way--;
    if (--replayed->left > 0)
        return;
    part->bytes -= replayed->size;
    forget_settled(part);
}

static void settled(struct outgoing *outgoing)
{
    const struct replayed *replayed = outgoing->owner;
    struct replay_part *part = replayed->part;

    switch (outgoing->record.outcome.as) {
    case SETTLED_DELIVERED:
        part->counts.delivered++;
        metric_add(part->delivered, 1);
        break;
    case SETTLED_RECORD_FAULT:
    case SETTLED_DESTINATION_FAULT:
        count_failed(part, outgoing->record.topic, outgoing->record.outcome.reason,
                     replayed->received_ms);
        break;
    case SETTLED_RETRY:
        if (part->job->is_stopped)
            break; /* neither delivered nor failed */
        if (!lane_is_configured(part->lane)) {
            count_failed(part, outgoing->record.topic, "publisher_removed", replayed->received_ms);
            break;
        }
        lane_resend(part->lane, outgoing);
        return;
    }
    release(outgoing);
}

/* ---- sending ---- */

static bool is_wanted(const struct replay_part *part, const struct route *route)
{
    const char *topic = part->job->request.topic;

    return !topic[0] || (route->topic && strcmp(route->topic, topic) == 0);
}

/* Why the record is not to be sent, or NULL. */
static const char *trouble_with(const struct replay_part *part, const struct outgoing *outgoing)
{
    if (outgoing->destination->parked)
        return "topic_parked";
    if (part->job->request.is_dry_run && outgoing->is_unsendable)
        return outgoing->record.outcome.reason;
    return NULL;
}

static void send_route(struct replay_part *part, struct replayed *replayed, struct event *event,
                       const struct route *route)
{
    struct outgoing *outgoing = lane_prepare_replay(part->lane, event, route->target, route->topic);
    const char *trouble = trouble_with(part, outgoing);

    if (trouble)
        count_failed(part, outgoing->record.topic, trouble, replayed->received_ms);
    else
        part->counts.sent++;
    if (trouble || part->job->request.is_dry_run) {
        outgoing_free(outgoing);
        return;
    }
    outgoing->owner = replayed;
    outgoing->settled = settled;
    outgoing->seq = event->record->seq;
    replayed->left++;
    part->on_the_way++;
    lane_send(part->lane, outgoing);
}

/* Follows the event until its records are settled; without any it is forgotten at once. */
static void follow(struct replay_part *part, struct replayed *replayed)
{
    if (replayed->left > 0)
        part->bytes += replayed->size;
    if (part->last)
        part->last->next = replayed;
    else
        part->first = replayed;
    part->last = replayed;
    forget_settled(part);
}

static void send_event(struct replay_part *part, struct event *event)
{
    struct replayed *replayed = alloc_zeroed(1, sizeof(*replayed));
    const struct route *routes;
    size_t count = router_route(part->job->options->router, event, part->publisher, &routes);
    bool has_any = false;

    replayed->part = part;
    replayed->received_ms = part->taken_ms = event->record->received_ms;
    replayed->size = event->record->size;
    /* Routes stay valid: preparing and sending do not route. */
    for (size_t i = 0; i < count; i++) {
        if (!is_wanted(part, &routes[i]))
            continue;
        has_any = true;
        send_route(part, replayed, event, &routes[i]);
    }
    part->counts.events += has_any;
    part->counts.unrouted += count == 0;
    follow(part, replayed);
}

static bool has_room(const struct replay_part *part)
{
    if (part->job->request.is_dry_run)
        return true;
    return part->on_the_way < MAX_ON_THE_WAY && part->bytes < MAX_BYTES &&
           !lane_is_busy(part->lane);
}

/* True when it could go on at once. */
static bool send_some(struct replay_part *part)
{
    struct replay_slice *slice = &part->slice;

    for (int i = 0; i < TURN_EVENTS; i++) {
        struct event *event;

        if (part->is_asked || part->at == slice->count || !has_room(part))
            return false;
        event = slice->events[part->at++];
        send_event(part, event);
        event_unref(event);
        lane_run(part->lane, false);
    }
    return true;
}

/* ---- reading ---- */

static void report_unreadable(struct replay_part *part)
{
    if (!part->could_not_read)
        log_error("replay.journal_unreadable", log_str("publisher", lane_name(part->lane)),
                  log_str("error", part->slice.err.message), log_str("action", "tried again"));
    part->could_not_read = true;
    part->next_read_ms = clock_monotonic_ms(part->job->options->clock) + READ_AGAIN_MS;
}

void replay_part_take_slice(struct replay_part *part)
{
    struct replay_slice *slice = &part->slice;

    part->is_asked = false;
    if (part->job->is_stopped) {
        replay_slice_clear(slice);
        return;
    }
    if (slice->has_failed)
        report_unreadable(part);
    else
        part->could_not_read = false;
    part->counts.read += slice->read;
    part->counts.missing += slice->missing;
    part->counts.remaining = slice->last + 1 - slice->next;
    if (slice->count > 0 || slice->has_failed)
        return;
    part->taken_ms = slice->newest_ms;
    forget_settled(part);
}

static void ask_for_more(struct replay_part *part)
{
    const struct replay_job *job = part->job;

    if (part->is_asked || part->at < part->slice.count || part->counts.remaining == 0 ||
        clock_monotonic_ms(job->options->clock) < part->next_read_ms)
        return;
    part->is_asked = true;
    part->at = 0;
    replay_source_ask(job->source, &part->slice);
}

/* ---- from its begin to its end ---- */

void replay_part_begin(struct replay_part *part)
{
    const struct replay_job *job = part->job;
    const struct replay_options *options = job->options;
    uint64_t settled = options->settled_up_to(options->context, part->publisher);
    uint64_t last = job->request.last < settled ? job->request.last : settled;
    char labels[2][96] = {"", ""};
    static const char help[] = "Records that were sent again by a replay.";

    part->lane = options->lanes[part->publisher];
    part->slice.filter = &job->request.filter;
    part->slice.next = job->request.first;
    part->slice.last = last;
    if (last >= job->request.first)
        part->counts.remaining = last + 1 - job->request.first;
    if (job->request.last >= job->request.first)
        part->counts.left_to_live =
            job->request.last + 1 - job->request.first - part->counts.remaining;
    for (int i = 0; i < 2; i++) {
        metrics_label(labels[i], sizeof(labels[i]), "publisher", lane_name(part->lane));
        metrics_label(labels[i], sizeof(labels[i]), "result", i == 0 ? "delivered" : "failed");
    }
    part->delivered =
        metrics_get(options->metrics, METRIC_COUNTER, "events_replayed_total", help, labels[0]);
    part->failed =
        metrics_get(options->metrics, METRIC_COUNTER, "events_replayed_total", help, labels[1]);
}

bool replay_part_run(struct replay_part *part)
{
    bool could_go_on = send_some(part);

    ask_for_more(part);
    return could_go_on;
}

bool replay_part_is_done(const struct replay_part *part)
{
    return !part->lane || (part->counts.remaining == 0 && !part->is_asked &&
                           part->at == part->slice.count && !part->first);
}

static void drop_unsent(struct replay_part *part)
{
    while (part->at < part->slice.count)
        event_unref(part->slice.events[part->at++]);
}

void replay_part_stop(struct replay_part *part)
{
    if (!part->is_asked)
        drop_unsent(part);
}

void replay_part_release(struct replay_part *part)
{
    drop_unsent(part);
    while (part->first) {
        struct replayed *next = part->first->next;

        free(part->first);
        part->first = next;
    }
}
