#include "bridge/dispatcher/lane.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/dispatcher/lane_internal.h"
#include "bridge/dispatcher/outcomes.h"
#include "bridge/runtime/metrics.h"
#include "schemas/event.h"

static void errand_returns(struct note *note)
{
    struct errand *errand = container_of(note, struct errand, note);

    mailbox_push(errand->return_to, &note->node);
}

void errand_send(struct errand *errand, struct journal *journal, struct mailbox *return_to)
{
    errand->return_to = return_to;
    errand->note.done = errand_returns;
    journal_note(journal, &errand->note);
}

void errands_finish(struct mailbox *mailbox)
{
    struct mailbox_node *node = mailbox_take(mailbox);

    while (node) {
        struct errand *errand =
            container_of(container_of(node, struct note, node), struct errand, note);

        node = node->next;
        errand->finished(errand);
    }
}

/* The lane whose publisher this thread serves: what that calls back is looked at right behind it,
 * so nobody has to be woken. */
static _Thread_local const struct lane *served;

static void on_settled(void *context, struct record *record)
{
    struct lane *lane = context;

    if (mailbox_add(&lane->settled, &record->node) && served != lane)
        wakeup_signal(lane->wakeup);
}

static void on_ready(void *context)
{
    struct lane *lane = context;

    atomic_store(&lane->is_ready, true);
    if (served != lane)
        wakeup_signal(lane->wakeup);
}

static void on_state(void *context, bool is_up, const char *reason)
{
    struct lane *lane = context;

    atomic_store(&lane->link, is_up ? LANE_UP : LANE_DOWN);
    metric_set(lane->up, is_up);
    if (is_up)
        log_info("publisher.up", log_str("publisher", lane_name(lane)), log_str("broker", reason));
    else
        log_warn("publisher.down", log_str("publisher", lane_name(lane)), log_str("error", reason));
    wakeup_signal(lane->wakeup);
}

/* Those of a publisher that was never configured are not shown. */
static void make_series(struct lane *lane)
{
    struct metrics *metrics = lane->metrics;
    char labels[64] = "";

    if (lane->up)
        return;
    metrics_label(labels, sizeof(labels), "publisher", lane->name);
    lane->published = metrics_get(metrics, METRIC_COUNTER, "events_published_total",
                                  "Records that the broker acknowledged.", labels);
    lane->no_subscribers = metrics_get(
        metrics, METRIC_COUNTER, "events_without_subscribers_total",
        "Records that the broker took although nobody subscribes to their topic.", labels);
    lane->up = metrics_get(metrics, METRIC_GAUGE, "publisher_up",
                           "1 while the broker can be reached.", labels);
    lane->latency = metrics_histogram(metrics, "publish_latency_seconds",
                                      "From acceptance to the broker's acknowledgement.", labels);
}

struct lane *lane_new(const struct lane_options *options)
{
    struct lane *lane = alloc_zeroed(1, sizeof(*lane));

    lane->name = options->ops->name;
    lane->clock = options->clock;
    lane->wakeup = options->wakeup;
    lane->metrics = options->metrics;
    lane->outcomes = options->outcomes;
    mailbox_init(&lane->settled, options->wakeup);
    lane->carrier.ops = options->ops;
    lane->carrier.clock = options->clock;
    lane->carrier.wakeup = options->wakeup;
    lane->carrier.events = (struct publisher_events){on_settled, on_ready, on_state, lane};
    return lane;
}

int lane_open(struct lane *lane, const struct carrier_options *options, struct error *err)
{
    make_series(lane);
    atomic_store(&lane->is_configured, true);
    return carrier_open(&lane->carrier, options, err);
}

void lane_change(struct lane *lane, const struct carrier_options *options)
{
    make_series(lane);
    atomic_store(&lane->is_configured, options->options != NULL);
    carrier_change(&lane->carrier, options);
    atomic_store(&lane->is_ready, true); /* there may be one at once, where there was none */
}

bool lane_is_configured(const struct lane *lane)
{
    return atomic_load(&lane->is_configured);
}

void lane_close(struct lane *lane, int64_t timeout_ms)
{
    if (!lane)
        return;
    if (!carrier_close(&lane->carrier, timeout_ms))
        return; /* its records are being read: all of it goes with the process */
    lane_free_records(lane);
    free(lane);
}

const char *lane_name(const struct lane *lane)
{
    return lane->name;
}

int lane_fd(const struct lane *lane)
{
    return carrier_fd(&lane->carrier);
}

void lane_send(struct lane *lane, struct outgoing *outgoing)
{
    outgoing->next = NULL;
    if (lane->last)
        lane->last->next = outgoing;
    else
        lane->first = outgoing;
    lane->last = outgoing;
}

void lane_resend(struct lane *lane, struct outgoing *outgoing)
{
    outgoing->next = lane->returned;
    lane->returned = outgoing;
}

static int by_order(const void *a, const void *b)
{
    const struct outgoing *const *left = a;
    const struct outgoing *const *right = b;

    return ((*left)->order > (*right)->order) - ((*left)->order < (*right)->order);
}

/* Puts what came back in front of what is younger. */
static void sort_in_returned(struct lane *lane)
{
    struct outgoing *lists[2] = {lane->returned, lane->first};
    struct outgoing **all;
    size_t count = 0;
    size_t i = 0;

    for (int l = 0; l < 2; l++) {
        for (const struct outgoing *o = lists[l]; o; o = o->next)
            count++;
    }
    all = alloc_zeroed(count, sizeof(struct outgoing *));
    for (int l = 0; l < 2; l++) {
        for (struct outgoing *o = lists[l]; o; o = o->next)
            all[i++] = o;
    }
    qsort(all, count, sizeof(struct outgoing *), by_order);
    lane->returned = NULL;
    lane->first = NULL;
    lane->last = NULL;
    for (i = 0; i < count; i++)
        lane_send(lane, all[i]);
    free(all);
}

bool lane_is_busy(const struct lane *lane)
{
    return lane->is_publisher_busy || lane->first || lane->returned;
}

bool lane_is_idle(const struct lane *lane)
{
    return lane->submitted == 0 && !lane->first && !lane->returned;
}

bool lane_is_down(const struct lane *lane, bool unknown)
{
    enum lane_link link = atomic_load(&lane->link);

    return link == LANE_UNKNOWN ? unknown : link == LANE_DOWN;
}

/* Copies of dead letters are not where the event went. */
static void note_outcome(struct lane *lane, const struct record *record, int64_t now_ms)
{
    if (lane->outcomes && !record->dead_reason)
        outcomes_add(lane->outcomes, &(struct outcome){.seq = record->event->record->seq,
                                                       .at_ms = now_ms,
                                                       .offset = record->outcome.offset,
                                                       .partition = record->outcome.partition,
                                                       .topic = text_of(record->topic)});
}

static void count_delivered(struct lane *lane, const struct record *record)
{
    int64_t now_ms = clock_wall_ms(lane->clock);
    int64_t latency_ms = now_ms - record->event->record->received_ms;

    note_outcome(lane, record, now_ms);
    metric_add(lane->published, 1);
    if (record->outcome.reason && strcmp(record->outcome.reason, "no_subscribers") == 0)
        metric_add(lane->no_subscribers, 1);
    if (!record->is_replay)
        histogram_observe_us(lane->latency, latency_ms > 0 ? latency_ms * 1000 : 0);
}

static void take_settled(struct lane *lane)
{
    struct mailbox_node *node = mailbox_take(&lane->settled);

    while (node) {
        struct record *record = container_of(node, struct record, node);
        struct outgoing *outgoing = container_of(record, struct outgoing, record);

        node = node->next;
        outgoing->is_submitted = false;
        lane->submitted--;
        if (record->outcome.as == SETTLED_DELIVERED)
            count_delivered(lane, record);
        outgoing->settled(outgoing);
    }
}

static enum submit_result submit(struct lane *lane, struct outgoing *outgoing)
{
    if (outgoing->is_unsendable)
        return SUBMIT_SETTLED;
    return carrier_submit(&lane->carrier, &outgoing->record);
}

static void submit_waiting(struct lane *lane)
{
    while (lane->first && !lane->is_publisher_busy) {
        struct outgoing *outgoing = lane->first;
        struct outgoing *next =
            outgoing->next; /* before submit: afterwards it may be settled at once */
        enum submit_result result = submit(lane, outgoing);

        if (result == SUBMIT_BUSY) {
            lane->is_publisher_busy = true;
            return;
        }
        outgoing->is_submitted = true;
        lane->submitted++;
        lane->first = next;
        if (!next)
            lane->last = NULL;
        if (result == SUBMIT_SETTLED)
            on_settled(lane, &outgoing->record);
    }
}

static void give_back(struct outgoing *outgoing)
{
    outgoing->record.outcome.as = SETTLED_RETRY;
    outgoing->record.outcome.reason = "publisher_exchanged";
    outgoing->settled(outgoing);
}

/* What the publisher before had and did not settle. */
static void give_back_submitted(struct lane *lane, bool must_stay)
{
    struct outgoing *next;

    take_settled(lane);
    for (struct outgoing *outgoing = lane->all; outgoing; outgoing = next) {
        next = outgoing->all_next; /* first: its owner may free it */
        if (!outgoing->is_submitted)
            continue;
        outgoing->is_submitted = false;
        outgoing->must_stay = outgoing->must_stay || must_stay;
        lane->submitted--;
        give_back(outgoing);
    }
}

/* What waits for a publisher that will not come: its owner may know better than to wait. */
static void give_back_waiting(struct lane *lane)
{
    struct outgoing *outgoing = lane->first;

    lane->first = NULL;
    lane->last = NULL;
    while (outgoing) {
        struct outgoing *next = outgoing->next;

        if (outgoing->is_unsendable)
            lane_send(lane, outgoing); /* it needs no publisher */
        else
            give_back(outgoing);
        outgoing = next;
    }
}

static void serve(struct lane *lane, bool fd_is_readable)
{
    bool is_idle = lane->submitted == 0 || lane_is_down(lane, false);
    enum carrier_news news;

    served = lane;
    news = carrier_turn(&lane->carrier, fd_is_readable, is_idle);
    served = NULL;
    if (news == CARRIER_NO_NEWS)
        return;
    atomic_store(&lane->is_ready, true);
    if (news == CARRIER_HAS_OPENED)
        return;
    give_back_submitted(lane, news == CARRIER_HANGS);
    if (lane_is_configured(lane))
        return;
    give_back_waiting(lane);
    atomic_store(&lane->link, LANE_DOWN);
    metric_set(lane->up, 0);
}

void lane_run(struct lane *lane, bool fd_is_readable)
{
    serve(lane, fd_is_readable);
    /* In this order: a publisher settles everything before it says that it is ready. */
    if (atomic_exchange(&lane->is_ready, false))
        lane->is_publisher_busy = false;
    take_settled(lane);
    if (lane->returned && !lane->is_publisher_busy)
        sort_in_returned(lane);
    submit_waiting(lane);
}
