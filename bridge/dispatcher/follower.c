#include "bridge/dispatcher/follower.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/dispatcher/parked.h"
#include "bridge/dispatcher/recent.h"
#include "bridge/dispatcher/saver.h"
#include "bridge/runtime/metrics.h"
#include "schemas/event.h"

enum {
    WINDOW_BYTES = 64 * 1024 * 1024,
    AHEAD_EVENTS = 256,
    AHEAD_BYTES = 4 * 1024 * 1024,
    SAVE_AFTER_MS = 100, /* a cursor is made durable at least so often */
    READ_RETRY_MS = 1000,
};

/* An event between the durable cursor and the newest taken. */
struct slot {
    uint32_t unsettled; /* records not yet settled */
    uint32_t bytes;
    int64_t received_ms;
};

struct follower {
    struct follower_options options;
    struct saver saver;
    struct parked *parked;
    uint64_t durable;                  /* cursor in the journal */
    uint64_t settled;                  /* everything up to here is settled */
    uint64_t next;                     /* first event not yet taken */
    struct slot *slots;                /* at seq % capacity */
    uint32_t capacity;                 /* the largest window there was */
    size_t bytes;                      /* of the events in slots */
    size_t on_the_way;                 /* records not yet settled */
    struct event *ahead[AHEAD_EVENTS]; /* read from the journal, not yet taken */
    size_t ahead_at;
    size_t ahead_count;
    int64_t next_read_ms; /* after a failed read; monotonic */
    struct errand cursor_errand;
    bool is_saving;
    bool is_stopped;
    bool buries_unrouted;
    bool is_dropping;                 /* said so */
    int64_t next_save_ms;             /* monotonic */
    _Atomic uint64_t seen_settled;    /* for follower_measure() */
    _Atomic int64_t seen_received_ms; /* of the oldest event not yet settled; 0: none taken */
    struct metric *dropped;
    struct metric *lag_events;
    struct metric *lag_seconds;
};

struct follower *follower_open(const struct follower_options *options, struct error *err)
{
    struct follower *follower = alloc_zeroed(1, sizeof(*follower));
    const char *name = lane_name(options->lane);
    char labels[64] = "";

    follower->options = *options;
    follower->durable = options->cursor;
    follower->settled = options->cursor;
    follower->next = options->cursor + 1;
    atomic_init(&follower->seen_settled, options->cursor);
    follower->capacity = options->settings.window;
    follower->slots = alloc_zeroed(follower->capacity, sizeof(*follower->slots));
    follower->saver = (struct saver){.journal = options->journal,
                                     .return_to = options->errands,
                                     .clock = options->clock,
                                     .metrics = options->metrics,
                                     .publisher = name};
    metrics_label(labels, sizeof(labels), "publisher", name);
    follower->dropped = metrics_get(options->metrics, METRIC_COUNTER, "events_dropped_total",
                                    "Events given up because overflow is drop_oldest.", labels);
    follower->lag_events = metrics_get(options->metrics, METRIC_GAUGE, "publisher_lag_events",
                                       "Events accepted and not yet settled.", labels);
    follower->lag_seconds =
        metrics_get_milli(options->metrics, "publisher_lag_seconds",
                          "Age of the oldest event accepted and not yet settled.", labels);
    follower->parked =
        parked_open(&(struct parked_options){.lane = options->lane,
                                             .router = options->router,
                                             .publisher = options->publisher,
                                             .reader = options->reader,
                                             .saver = &follower->saver,
                                             .clock = options->clock,
                                             .metrics = options->metrics,
                                             .retry_for_ms = options->settings.retry_for_ms},
                    err);
    if (follower->parked)
        return follower;
    follower_close(follower);
    return NULL;
}

static void drop_ahead(struct follower *follower)
{
    while (follower->ahead_at < follower->ahead_count)
        event_unref(follower->ahead[follower->ahead_at++]);
}

void follower_close(struct follower *follower)
{
    if (!follower)
        return;
    drop_ahead(follower);
    parked_close(follower->parked);
    free(follower->slots);
    free(follower);
}

static struct slot *slot_of(struct follower *follower, uint64_t seq)
{
    return &follower->slots[seq % follower->capacity];
}

static void advance_settled(struct follower *follower)
{
    while (follower->settled + 1 < follower->next &&
           slot_of(follower, follower->settled + 1)->unsettled == 0)
        follower->settled++;
}

/* One record of an event is delivered, parked or dead: all of it durable elsewhere. */
static void resolve(struct outgoing *outgoing)
{
    struct follower *follower = outgoing->owner;

    if (outgoing->seq >
        follower->settled) /* else it was dropped meanwhile, and its slot is another's */
        slot_of(follower, outgoing->seq)->unsettled--;
    follower->on_the_way--;
    outgoing_free(outgoing);
}

static void settled(struct outgoing *outgoing)
{
    struct follower *follower = outgoing->owner;

    switch (outgoing->record.outcome.as) {
    case SETTLED_DELIVERED:
        resolve(outgoing);
        return;
    case SETTLED_RECORD_FAULT:
        saver_save(&follower->saver, outgoing, NOTE_BURY, outgoing->record.outcome.reason, false,
                   resolve);
        return;
    case SETTLED_DESTINATION_FAULT:
        parked_add(follower->parked, outgoing, outgoing->record.outcome.reason, resolve);
        return;
    case SETTLED_RETRY:
        lane_resend(follower->options.lane, outgoing);
        return;
    }
}

static void send_route(struct follower *follower, struct event *event, const struct route *routes,
                       size_t i)
{
    struct outgoing *outgoing =
        lane_prepare(follower->options.lane, event, routes[i].target, routes[i].topic);

    outgoing->owner = follower;
    outgoing->settled = settled;
    outgoing->seq = event->record->seq;
    outgoing->nth = route_ordinal(routes, i);
    if (outgoing->destination->parked && !outgoing->is_unsendable)
        parked_add(follower->parked, outgoing, "topic_parked", resolve);
    else
        lane_send(follower->options.lane, outgoing);
}

/* What was accepted and matches nothing any more becomes a dead letter: of the first publisher,
 * once. */
static bool is_unrouted(struct follower *follower, const struct event *event, size_t own_routes)
{
    return own_routes == 0 && follower->buries_unrouted &&
           !router_matches(follower->options.router, event);
}

static void bury_unrouted(struct follower *follower, struct event *event)
{
    static const struct config_target no_target = {.key = KEY_NONE, .topic_source = ""};
    struct outgoing *outgoing = lane_prepare(follower->options.lane, event, &no_target, NULL);

    outgoing->owner = follower;
    outgoing->settled = settled;
    outgoing->seq = event->record->seq;
    outgoing->record.outcome.reason = "unrouted";
    lane_send(follower->options.lane, outgoing);
}

static void take(struct follower *follower, struct event *event)
{
    struct slot *slot = slot_of(follower, follower->next);
    const struct route *routes;
    size_t count =
        router_route(follower->options.router, event, follower->options.publisher, &routes);
    bool unrouted = is_unrouted(follower, event, count);

    *slot = (struct slot){(uint32_t)(unrouted ? 1 : count), event->record->size,
                          event->record->received_ms};
    follower->bytes += event->record->size;
    follower->on_the_way += slot->unsettled;
    follower->next++;
    if (unrouted) {
        bury_unrouted(follower, event);
        return;
    }
    /* Routes stay valid: preparing and sending do not route. */
    for (size_t i = 0; i < count; i++)
        send_route(follower, event, routes, i);
}

/* An event that is not there any more (damaged, passed over by the reader) is settled. */
static void pass_over(struct follower *follower)
{
    *slot_of(follower, follower->next) = (struct slot){0, 0, 0};
    follower->next++;
}

/* Fills `ahead` from the journal. False when nothing could be read. */
static bool read_ahead(struct follower *follower, uint64_t tail)
{
    int64_t now_ms = clock_monotonic_ms(follower->options.clock);
    struct error err;
    int count;

    drop_ahead(follower);
    follower->ahead_at = 0;
    follower->ahead_count = 0;
    if (now_ms < follower->next_read_ms)
        return false;
    count = journal_read(follower->options.reader, follower->next, AHEAD_EVENTS, AHEAD_BYTES,
                         follower->ahead, &err);
    if (count < 0) {
        log_error("journal.unreadable", log_str("publisher", lane_name(follower->options.lane)),
                  log_i64("seq", (int64_t)follower->next), log_str("error", err.message));
        follower->next_read_ms = now_ms + READ_RETRY_MS;
        return false;
    }
    follower->ahead_count = (size_t)count;
    if (count == 0 && follower->next <= tail)
        pass_over(follower);
    return count > 0;
}

/* Returns owned the event at `next`, or NULL: nothing now. */
static struct event *fetch(struct follower *follower, uint64_t tail)
{
    struct event *event;

    if (follower->ahead_at == follower->ahead_count) {
        event = recent_get(follower->options.recent, follower->next);
        if (event)
            return event;
        if (!read_ahead(follower, tail))
            return NULL;
    }
    event = follower->ahead[follower->ahead_at];
    if (event->record->seq == follower->next) {
        follower->ahead_at++;
        return event;
    }
    if (event->record->seq > follower->next)
        pass_over(follower);
    else
        drop_ahead(follower);
    return NULL;
}

static bool has_room(const struct follower *follower)
{
    return follower->next - follower->durable <= follower->options.settings.window &&
           follower->bytes < WINDOW_BYTES && !lane_is_busy(follower->options.lane);
}

static void take_what_fits(struct follower *follower)
{
    uint64_t tail = recent_tail(follower->options.recent);

    while (!follower->is_stopped && follower->next <= tail && has_room(follower)) {
        uint64_t before = follower->next;
        struct event *event = fetch(follower, tail);

        if (event) {
            take(follower, event);
            event_unref(event);
            lane_run(follower->options.lane, false);
        } else if (follower->next == before) {
            return;
        }
    }
}

static void cursor_saved(struct errand *errand)
{
    struct follower *follower = container_of(errand, struct follower, cursor_errand);

    follower->is_saving = false;
    if (errand->note.result != NOTE_STORED) {
        follower->next_save_ms = clock_monotonic_ms(follower->options.clock) + READ_RETRY_MS;
        return;
    }
    while (follower->durable < errand->note.seq) {
        follower->durable++;
        follower->bytes -= slot_of(follower, follower->durable)->bytes;
    }
}

/* Often enough that the window does not stand still, seldom enough that an idle disk is left alone.
 */
static void save_cursor(struct follower *follower)
{
    uint64_t unsaved = follower->settled - follower->durable;
    int64_t now_ms = clock_monotonic_ms(follower->options.clock);

    if (unsaved == 0 || follower->is_saving)
        return;
    if (now_ms < follower->next_save_ms && unsaved < follower->options.settings.window / 4 &&
        !follower->is_stopped && follower->bytes < WINDOW_BYTES / 4)
        return;
    follower->is_saving = true;
    follower->next_save_ms = now_ms + SAVE_AFTER_MS;
    follower->cursor_errand.note = (struct note){.kind = NOTE_CURSOR,
                                                 .publisher = lane_name(follower->options.lane),
                                                 .seq = follower->settled};
    follower->cursor_errand.finished = cursor_saved;
    errand_send(&follower->cursor_errand, follower->options.journal, follower->options.errands);
}

/* Gives up everything up to `last`, as if it were settled. */
static void skip_to(struct follower *follower, uint64_t last)
{
    for (uint64_t seq = follower->durable + 1; seq <= last && seq < follower->next; seq++) {
        follower->bytes -= slot_of(follower, seq)->bytes;
        slot_of(follower, seq)->bytes = 0;
    }
    if (last >= follower->next) {
        memset(follower->slots, 0, follower->capacity * sizeof(*follower->slots));
        follower->next = last + 1;
        drop_ahead(follower);
    }
    follower->settled = last;
}

/* A publisher that may lose gives way before the journal is full, so that it never stops the
 * others. */
static void make_way(struct follower *follower)
{
    struct journal_numbers numbers;
    uint64_t last;

    if (follower->options.settings.overflow != OVERFLOW_DROP_OLDEST || follower->is_saving)
        return;
    journal_numbers(follower->options.journal, &numbers);
    last = numbers.head + (numbers.tail - numbers.head) / 8;
    if (numbers.bytes < numbers.max_bytes / 10 * 8 || numbers.tail <= numbers.head ||
        last <= follower->settled)
        return;
    metric_add(follower->dropped, (int64_t)(last - follower->settled));
    if (!follower->is_dropping)
        log_warn(
            "publisher.drops_oldest", log_str("publisher", lane_name(follower->options.lane)),
            log_i64("events", (int64_t)(last - follower->settled)),
            log_str("action", "overflow is drop_oldest: the journal keeps its space for others"));
    follower->is_dropping = true;
    skip_to(follower, last);
}

static void show_progress(struct follower *follower)
{
    bool is_behind = follower->settled + 1 < follower->next;

    atomic_store(&follower->seen_settled, follower->settled);
    atomic_store(&follower->seen_received_ms,
                 is_behind ? slot_of(follower, follower->settled + 1)->received_ms : 0);
}

void follower_run(struct follower *follower)
{
    saver_run(&follower->saver);
    take_what_fits(follower);
    advance_settled(follower);
    make_way(follower);
    save_cursor(follower);
    if (!follower->is_stopped)
        parked_run(follower->parked);
    show_progress(follower);
}

void follower_set_stopped(struct follower *follower, bool is_stopped)
{
    follower->is_stopped = is_stopped;
}

void follower_set_buries_unrouted(struct follower *follower, bool buries_unrouted)
{
    follower->buries_unrouted = buries_unrouted;
}

/* A window that shrinks leaves the slots: what is on its way is still in them. */
static void grow_slots(struct follower *follower, uint32_t capacity)
{
    struct slot *slots = alloc_zeroed(capacity, sizeof(*slots));
    uint64_t first = follower->durable + 1;

    if (follower->next - first > follower->capacity)
        first = follower->next - follower->capacity; /* it skipped: there is nothing before */
    for (uint64_t seq = first; seq < follower->next; seq++)
        slots[seq % capacity] = *slot_of(follower, seq);
    free(follower->slots);
    follower->slots = slots;
    follower->capacity = capacity;
}

void follower_set(struct follower *follower, const struct config_publisher *settings)
{
    if (settings->window > follower->capacity)
        grow_slots(follower, settings->window);
    follower->options.settings = *settings;
    parked_set_retry_for(follower->parked, settings->retry_for_ms);
}

bool follower_is_at_rest(const struct follower *follower)
{
    bool waits = follower->on_the_way > 0 || !lane_is_idle(follower->options.lane);

    /* What is on its way to a broker that cannot be reached is not waited for: the journal has it.
     */
    return (!waits || lane_is_down(follower->options.lane, true)) && !follower->is_saving &&
           follower->settled == follower->durable;
}

uint64_t follower_next(const struct follower *follower)
{
    return follower->next;
}

uint64_t follower_settled(const struct follower *follower)
{
    return atomic_load(&follower->seen_settled);
}

void follower_measure(const struct follower *follower)
{
    uint64_t tail = recent_tail(follower->options.recent);
    uint64_t settled = atomic_load(&follower->seen_settled);
    int64_t received_ms = atomic_load(&follower->seen_received_ms);
    uint64_t lag = tail > settled ? tail - settled : 0;
    int64_t age_ms = 0;

    if (lag > 0 && received_ms > 0)
        age_ms = clock_wall_ms(follower->options.clock) - received_ms;
    metric_set(follower->lag_events, (int64_t)lag);
    metric_set(follower->lag_seconds, age_ms > 0 ? age_ms : 0);
}
