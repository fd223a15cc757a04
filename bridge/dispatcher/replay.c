#include "bridge/dispatcher/replay.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/config/config.h"
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
    struct part *part;
    int64_t received_ms;
    uint32_t size;
    size_t left; /* records not settled */
};

/* What goes to one publisher. */
struct part {
    struct job *job;
    enum publisher_index publisher;
    struct lane *lane; /* NULL: none of it does */
    struct replay_slice slice;
    size_t at;     /* the first event of the slice that is not sent */
    bool is_asked; /* the slice is being filled */
    bool could_not_read;
    int64_t next_read_ms; /* monotonic */
    struct replayed *first;
    struct replayed *last;
    size_t on_the_way;
    size_t bytes;
    int64_t taken_ms; /* when the latest event taken was received */
    struct replay_counts counts;
    struct metric *delivered;
    struct metric *failed;
};

struct job {
    struct replay *replay;
    struct replay_request request;
    struct part parts[PUBLISHER_COUNT];
    struct replay_fault faults[REPLAY_FAULTS];
    size_t fault_count;
    uint64_t unlisted;
    bool faults_have_changed;
    bool is_stopped;
    bool is_over; /* done or stopped, and shown as such */
};

struct replay {
    struct replay_options options;
    struct replay_source *source; /* made with the first replay */
    struct job *job;
    pthread_mutex_t lock;
    struct replay_request request; /* lock: lock */
    bool is_asked;                 /* lock: lock; `request` waits to be begun */
    bool is_stop_asked;            /* lock: lock */
    bool is_ended;                 /* lock: lock */
    bool has_job;                  /* lock: lock; one is asked for, runs, or leaves */
    struct replay_progress shown;  /* lock: lock */
};

struct replay *replay_open(const struct replay_options *options)
{
    struct replay *replay = alloc_zeroed(1, sizeof(*replay));

    replay->options = *options;
    pthread_mutex_init(&replay->lock, NULL);
    return replay;
}

/* ---- from other threads ---- */

static enum replay_answer accept(struct replay *replay, const struct replay_request *request,
                                 struct error *err)
{
    if (replay->is_ended)
        return REPLAY_IS_STOPPING;
    if (replay->shown.state == REPLAY_RUNS)
        return REPLAY_IS_BUSY;
    if (replay->has_job)
        return REPLAY_IS_LEAVING;
    if (!replay->source)
        replay->source = replay_source_open(replay->options.journal, replay->options.wakeup, err);
    if (!replay->source)
        return REPLAY_CANNOT_READ;
    replay->request = *request;
    replay->is_asked = replay->has_job = true;
    replay->shown = (struct replay_progress){
        .state = REPLAY_RUNS,
        .id = clock_wall_ms(replay->options.clock),
        .request = *request,
    };
    return REPLAY_STARTED;
}

enum replay_answer replay_start(struct replay *replay, const struct replay_request *request,
                                struct error *err)
{
    enum replay_answer answer;

    pthread_mutex_lock(&replay->lock);
    answer = accept(replay, request, err);
    pthread_mutex_unlock(&replay->lock);
    wakeup_signal(replay->options.wakeup);
    return answer;
}

bool replay_stop(struct replay *replay)
{
    bool runs;

    pthread_mutex_lock(&replay->lock);
    runs = replay->shown.state == REPLAY_RUNS;
    if (runs) {
        replay->is_stop_asked = true;
        replay->shown.state = REPLAY_STOPPED;
        replay->shown.ended_ms = clock_wall_ms(replay->options.clock);
    }
    pthread_mutex_unlock(&replay->lock);
    wakeup_signal(replay->options.wakeup);
    return runs;
}

void replay_progress(struct replay *replay, struct replay_progress *out_progress)
{
    pthread_mutex_lock(&replay->lock);
    *out_progress = replay->shown;
    pthread_mutex_unlock(&replay->lock);
}

/* ---- what came of a record ---- */

static struct replay_fault *find_fault(struct job *job, const struct part *part, const char *topic,
                                       const char *reason)
{
    struct replay_fault *fault = job->faults;

    for (; fault < job->faults + job->fault_count; fault++) {
        if (fault->publisher == part->publisher && strcmp(fault->topic, topic) == 0 &&
            strcmp(fault->reason, reason) == 0)
            return fault;
    }
    return NULL;
}

static struct replay_fault *new_fault(struct job *job, const struct part *part, const char *topic,
                                      const char *reason, int64_t received_ms)
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

static void count_failed(struct part *part, const char *topic, const char *reason,
                         int64_t received_ms)
{
    struct job *job = part->job;
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
static void forget_settled(struct part *part)
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
    struct part *part = replayed->part;

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
    struct part *part = replayed->part;

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

static bool is_wanted(const struct part *part, const struct route *route)
{
    const char *topic = part->job->request.topic;

    return !topic[0] || (route->topic && strcmp(route->topic, topic) == 0);
}

/* Why the record is not to be sent, or NULL. */
static const char *trouble_with(const struct part *part, const struct outgoing *outgoing)
{
    if (outgoing->destination->parked)
        return "topic_parked";
    if (part->job->request.is_dry_run && outgoing->is_unsendable)
        return outgoing->record.outcome.reason;
    return NULL;
}

static void send_route(struct part *part, struct replayed *replayed, struct event *event,
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
static void follow(struct part *part, struct replayed *replayed)
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

static void send_event(struct part *part, struct event *event)
{
    struct replayed *replayed = alloc_zeroed(1, sizeof(*replayed));
    const struct route *routes;
    size_t count = router_route(part->job->replay->options.router, event, part->publisher, &routes);
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

static bool has_room(const struct part *part)
{
    if (part->job->request.is_dry_run)
        return true;
    return part->on_the_way < MAX_ON_THE_WAY && part->bytes < MAX_BYTES &&
           !lane_is_busy(part->lane);
}

/* True when it could go on at once. */
static bool send_some(struct part *part)
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

static void report_unreadable(struct part *part)
{
    if (!part->could_not_read)
        log_error("replay.journal_unreadable", log_str("publisher", lane_name(part->lane)),
                  log_str("error", part->slice.err.message), log_str("action", "tried again"));
    part->could_not_read = true;
    part->next_read_ms = clock_monotonic_ms(part->job->replay->options.clock) + READ_AGAIN_MS;
}

static void take_slice(struct part *part)
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

static void take_slices(struct replay *replay)
{
    struct mailbox_node *node = replay->source ? replay_source_take(replay->source) : NULL;

    while (node) {
        struct replay_slice *slice = container_of(node, struct replay_slice, node);

        node = node->next;
        take_slice(container_of(slice, struct part, slice));
    }
}

static void ask_for_more(struct part *part)
{
    const struct replay *replay = part->job->replay;

    if (part->is_asked || part->at < part->slice.count || part->counts.remaining == 0 ||
        clock_monotonic_ms(replay->options.clock) < part->next_read_ms)
        return;
    part->is_asked = true;
    part->at = 0;
    replay_source_ask(replay->source, &part->slice);
}

/* ---- a replay from its begin to its end ---- */

static void begin_part(struct job *job, int p)
{
    struct replay *replay = job->replay;
    struct part *part = &job->parts[p];
    uint64_t settled = replay->options.settled_up_to(replay->options.context, part->publisher);
    uint64_t last = job->request.last < settled ? job->request.last : settled;
    char labels[2][96] = {"", ""};
    static const char help[] = "Records that were sent again by a replay.";

    part->lane = replay->options.lanes[p];
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
    part->delivered = metrics_get(replay->options.metrics, METRIC_COUNTER, "events_replayed_total",
                                  help, labels[0]);
    part->failed = metrics_get(replay->options.metrics, METRIC_COUNTER, "events_replayed_total",
                               help, labels[1]);
}

static void begin(struct replay *replay, const struct replay_request *request)
{
    struct job *job = alloc_zeroed(1, sizeof(*job));

    job->replay = replay;
    job->request = *request;
    replay->job = job;
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        job->parts[p].job = job;
        job->parts[p].publisher = (enum publisher_index)p;
        if (request->publishers[p])
            begin_part(job, p);
    }
    log_info("replay.started", log_i64("first", (int64_t)request->first),
             log_i64("last", (int64_t)request->last),
             log_str("dry_run", request->is_dry_run ? "true" : "false"));
}

static void stop(struct job *job)
{
    job->is_stopped = true;
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        struct part *part = &job->parts[p];

        if (part->is_asked)
            continue;
        while (part->at < part->slice.count)
            event_unref(part->slice.events[part->at++]);
    }
}

/* Begins and stops what was asked for. */
static void obey(struct replay *replay)
{
    struct replay_request request = {0};
    bool is_asked;
    bool is_stop_asked;

    pthread_mutex_lock(&replay->lock);
    is_asked = replay->is_asked;
    is_stop_asked = replay->is_stop_asked;
    if (is_asked)
        request = replay->request;
    replay->is_asked = replay->is_stop_asked = false;
    pthread_mutex_unlock(&replay->lock);
    if (is_asked)
        begin(replay, &request);
    if (is_stop_asked && replay->job)
        stop(replay->job);
}

static bool part_is_done(const struct part *part)
{
    return !part->lane || (part->counts.remaining == 0 && !part->is_asked &&
                           part->at == part->slice.count && !part->first);
}

static bool has_anything_left(const struct job *job)
{
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        if (job->parts[p].is_asked || job->parts[p].on_the_way > 0)
            return true;
    }
    return false;
}

static bool is_done(const struct job *job)
{
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        if (!part_is_done(&job->parts[p]))
            return false;
    }
    return true;
}

static void log_end(const struct job *job)
{
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        const struct part *part = &job->parts[p];

        if (part->lane)
            log_info("replay.ended", log_str("publisher", lane_name(part->lane)),
                     log_str("result", job->is_stopped ? "stopped" : "done"),
                     log_i64("events", (int64_t)part->counts.events),
                     log_i64("delivered", (int64_t)part->counts.delivered),
                     log_i64("failed", (int64_t)part->counts.failed),
                     log_i64("missing", (int64_t)part->counts.missing));
    }
}

/* Shows the progress to other threads. */
static void show(struct replay *replay)
{
    struct job *job = replay->job;
    struct replay_progress *shown = &replay->shown;

    pthread_mutex_lock(&replay->lock);
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        struct part *part = &job->parts[p];

        part->counts.is_done = part_is_done(part);
        part->counts.is_down = part->lane && lane_is_down(part->lane, false);
        shown->counts[p] = part->counts;
    }
    if (job->faults_have_changed) {
        memcpy(shown->faults, job->faults, sizeof(shown->faults));
        shown->fault_count = job->fault_count;
        shown->unlisted = job->unlisted;
        job->faults_have_changed = false;
    }
    if (job->is_over && shown->state == REPLAY_RUNS) {
        shown->state = job->is_stopped ? REPLAY_STOPPED : REPLAY_DONE;
        shown->ended_ms = clock_wall_ms(replay->options.clock);
    }
    replay->has_job = !job->is_over || has_anything_left(job);
    pthread_mutex_unlock(&replay->lock);
}

static void free_job(struct job *job)
{
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        struct part *part = &job->parts[p];

        while (part->at < part->slice.count)
            event_unref(part->slice.events[part->at++]);
        while (part->first) {
            struct replayed *next = part->first->next;

            free(part->first);
            part->first = next;
        }
    }
    free(job);
}

/* Ends what is over, shows it, and lets it go once nothing refers to it. */
static void conclude(struct replay *replay)
{
    struct job *job = replay->job;

    if (!job->is_over && (job->is_stopped || is_done(job))) {
        job->is_over = true;
        log_end(job);
    }
    show(replay);
    if (!job->is_over || has_anything_left(job))
        return;
    replay->job = NULL;
    free_job(job);
}

/* True when it could go on at once. */
static bool run_part(struct part *part)
{
    bool could_go_on;

    if (!part->lane || part->job->is_stopped)
        return false;
    if (!lane_is_configured(part->lane) && !part_is_done(part)) {
        log_warn("replay.publisher_removed", log_str("publisher", lane_name(part->lane)),
                 log_str("action", "the replay is stopped"));
        stop(part->job);
        return false;
    }
    could_go_on = send_some(part);
    ask_for_more(part);
    return could_go_on;
}

bool replay_run(struct replay *replay)
{
    bool wants_more = false;

    obey(replay);
    if (!replay->job)
        return true;
    take_slices(replay);
    for (int p = 0; p < PUBLISHER_COUNT; p++)
        wants_more = run_part(&replay->job->parts[p]) || wants_more;
    conclude(replay);
    return !wants_more;
}

void replay_end(struct replay *replay)
{
    pthread_mutex_lock(&replay->lock);
    replay->is_ended = true;
    replay->is_stop_asked = true;
    pthread_mutex_unlock(&replay->lock);
    replay_source_stop(replay->source);
    replay_run(replay);
}

void replay_close(struct replay *replay)
{
    if (!replay)
        return;
    if (replay->job)
        free_job(replay->job);
    replay_source_close(replay->source);
    pthread_mutex_destroy(&replay->lock);
    free(replay);
}
