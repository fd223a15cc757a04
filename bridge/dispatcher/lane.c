#include "bridge/dispatcher/lane.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/config/config.h"
#include "bridge/dispatcher/carrier.h"
#include "bridge/dispatcher/outcomes.h"
#include "bridge/runtime/metrics.h"
#include "schemas/encoder.h"
#include "schemas/envelope.h"
#include "schemas/event.h"
#include "schemas/field_policy.h"

/* Destinations kept without a record on the way, so that a topic's name is not made anew for each.
 */
enum { BUCKETS = 1024, IDLE_DESTINATIONS = 1024, KEY_MAX = 1024 };

enum link_state { LINK_UNKNOWN, LINK_UP, LINK_DOWN };

struct lane {
    struct carrier carrier;
    const char *name;
    const struct clock *clock;
    struct wakeup *wakeup;
    struct metrics *metrics;
    struct outcomes *outcomes;
    struct mailbox settled; /* records, from any thread */
    atomic_bool is_ready;   /* on_ready() was called */
    _Atomic enum link_state link;
    atomic_bool is_configured;
    bool is_publisher_busy;
    size_t submitted; /* records that the publisher has */
    uint64_t next_order;
    struct outgoing *first; /* waiting to be submitted, in order */
    struct outgoing *last;
    struct outgoing *all;
    struct outgoing *returned; /* to be resent: sorted in before the next submit */
    struct destination *buckets[BUCKETS];
    size_t destination_count;
    struct metric *published;
    struct metric *no_subscribers;
    struct metric *up;
    struct histogram *latency;
};

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

    atomic_store(&lane->link, is_up ? LINK_UP : LINK_DOWN);
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

static void free_destinations(struct lane *lane)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        while (lane->buckets[i]) {
            struct destination *next = lane->buckets[i]->next_in_bucket;

            free(lane->buckets[i]);
            lane->buckets[i] = next;
        }
    }
}

void lane_close(struct lane *lane, int64_t timeout_ms)
{
    if (!lane)
        return;
    if (!carrier_close(&lane->carrier, timeout_ms))
        return; /* its records are being read: all of it goes with the process */
    /* The analyzer does not follow the list: freeing takes the record out of it. */
    while (lane->all)
        outgoing_free(lane->all); /* NOLINT(clang-analyzer-unix.Malloc) */
    free_destinations(lane);
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

static struct destination **find_destination(struct lane *lane, const char *topic)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    struct destination **at;

    for (const char *c = topic; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 1099511628211u;
    at = &lane->buckets[hash % BUCKETS];
    while (*at && strcmp((*at)->name, topic) != 0)
        at = &(*at)->next_in_bucket;
    return at;
}

struct destination *lane_destination(struct lane *lane, const char *topic)
{
    struct destination **at = find_destination(lane, topic);

    if (!*at) {
        size_t size = strlen(topic) + 1;

        *at = alloc_zeroed(1, sizeof(**at) + size);
        memcpy((*at)->name, topic, size);
        lane->destination_count++;
    }
    (*at)->references++;
    return *at;
}

void lane_release_destination(struct lane *lane, struct destination *destination)
{
    struct destination **at;

    if (--destination->references > 0 || lane->destination_count <= IDLE_DESTINATIONS)
        return;
    at = find_destination(lane, destination->name);
    *at = destination->next_in_bucket;
    lane->destination_count--;
    free(destination);
}

static struct text first_present(const struct event *event, const enum event_field *fields,
                                 size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct text value = event_text(event, fields[i]);

        if (value.size > 0)
            return value;
    }
    return (struct text){NULL, 0};
}

static struct text key_field(const struct event *event, enum event_field field)
{
    return first_present(event, &field, 1);
}

static void make_key(struct outgoing *outgoing, const struct config_target *target)
{
    static const enum event_field by_lead[] = {EVENT_LEAD_ID, EVENT_OBJECT_ID, EVENT_ID};
    const struct event *event = outgoing->record.event;
    char made[KEY_MAX];
    size_t size;

    switch (target ? target->key : KEY_LEAD_ID) {
    case KEY_LEAD_ID:
        outgoing->record.key = first_present(event, by_lead, 3);
        return;
    case KEY_OBJECT_ID:
        outgoing->record.key = key_field(event, EVENT_OBJECT_ID);
        return;
    case KEY_EVENT_ID:
        outgoing->record.key = key_field(event, EVENT_ID);
        return;
    case KEY_ORGANIZATION_ID:
        outgoing->record.key = key_field(event, EVENT_ORGANIZATION_ID);
        return;
    case KEY_TEMPLATE:
        if (key_template_render(target->key_template, event, made, sizeof(made), &size) == 0) {
            buf_append(&outgoing->key, made, size);
            outgoing->record.key = buf_text(&outgoing->key);
        }
        return;
    case KEY_NONE:
        return;
    }
}

static void refuse(struct outgoing *outgoing, const char *reason)
{
    outgoing->is_unsendable = true;
    outgoing->record.outcome.as = SETTLED_RECORD_FAULT;
    outgoing->record.outcome.reason = reason;
}

static void make_value(struct outgoing *outgoing, const struct config_target *target)
{
    struct record *record = &outgoing->record;
    struct error err;

    if (target->tombstone &&
        text_equal_string(event_text(record->event, EVENT_ACTION), "deleted")) {
        /* A null value has no room for attributes: they go into headers, as binary mode has it. */
        if (!format_is_binary_mode(record->format))
            record->format = FORMAT_EVENT;
        return;
    }
    if (encoder_encode(target->format, record->event, target->fields, record->is_replay,
                       &outgoing->value, &record->value, &err) == 0)
        return;
    if (err.kind == ERROR_FATAL)
        abort(); /* no memory: see alloc.h */
    refuse(outgoing, "not_encodable");
}

static struct outgoing *new_outgoing(struct lane *lane, struct event *event, const char *topic)
{
    struct outgoing *outgoing = alloc_zeroed(1, sizeof(*outgoing));

    outgoing->lane = lane;
    outgoing->all_next = lane->all;
    if (lane->all)
        lane->all->all_previous = outgoing;
    lane->all = outgoing;
    outgoing->destination = lane_destination(lane, topic);
    outgoing->order = lane->next_order++;
    outgoing->record.event = event_ref(event);
    outgoing->record.topic = outgoing->destination->name;
    outgoing->record.outcome.partition = -1;
    outgoing->record.outcome.offset = -1;
    return outgoing;
}

static struct outgoing *prepare(struct lane *lane, struct event *event,
                                const struct config_target *target, const char *topic,
                                bool is_replay)
{
    struct outgoing *outgoing = new_outgoing(lane, event, topic ? topic : target->topic_source);
    struct record *record = &outgoing->record;

    record->is_replay = is_replay;
    record->format = target->format;
    record->qos = target->qos;
    record->retain = target->retain && !is_replay;
    if (!topic) {
        refuse(outgoing, "bad_topic");
        return outgoing;
    }
    record->timestamp_ms = event->record->received_ms;
    if (target->timestamp_is_event)
        envelope_parse_date(event_text(event, EVENT_DATE_UPDATED), &record->timestamp_ms);
    make_key(outgoing, target);
    make_value(outgoing, target);
    return outgoing;
}

struct outgoing *lane_prepare(struct lane *lane, struct event *event,
                              const struct config_target *target, const char *topic)
{
    return prepare(lane, event, target, topic, false);
}

struct outgoing *lane_prepare_replay(struct lane *lane, struct event *event,
                                     const struct config_target *target, const char *topic)
{
    return prepare(lane, event, target, topic, true);
}

/* Applies each policy to what the one before left. */
static void cut_fields(struct outgoing *outgoing, const struct field_policy *const *policies,
                       size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct buf cut = {0};

        field_policy_apply(policies[i], outgoing->record.value, &cut);
        if (cut.failed)
            abort(); /* no memory: see alloc.h */
        buf_release(&outgoing->value);
        outgoing->value = cut;
        outgoing->record.value = buf_text(&outgoing->value);
    }
}

struct outgoing *lane_prepare_dead_copy(struct lane *lane, struct event *event,
                                        const struct dead_copy *copy)
{
    struct outgoing *outgoing = new_outgoing(lane, event, copy->topic);
    struct record *record = &outgoing->record;
    bool is_opaque = event_has(event, EVENT_IS_OPAQUE);

    record->format = is_opaque ? FORMAT_RAW : FORMAT_EVENT;
    record->is_withheld = is_opaque && copy->policy_count > 0;
    if (!record->is_withheld)
        record->value = event_text(event, is_opaque ? EVENT_BODY : EVENT_OBJECT);
    if (!is_opaque)
        cut_fields(outgoing, copy->policies, copy->policy_count);
    record->timestamp_ms = event->record->received_ms;
    record->dead_reason = copy->reason;
    record->dead_publisher = copy->publisher;
    record->dead_topic = copy->dead_topic;
    make_key(outgoing, NULL);
    return outgoing;
}

void outgoing_free(struct outgoing *outgoing)
{
    if (!outgoing)
        return;
    if (outgoing->all_next)
        outgoing->all_next->all_previous = outgoing->all_previous;
    if (outgoing->all_previous)
        outgoing->all_previous->all_next = outgoing->all_next;
    else
        outgoing->lane->all = outgoing->all_next;
    if (outgoing->must_stay)
        return;
    lane_release_destination(outgoing->lane, outgoing->destination);
    event_unref(outgoing->record.event);
    buf_release(&outgoing->value);
    buf_release(&outgoing->key);
    free(outgoing);
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
    enum link_state link = atomic_load(&lane->link);

    return link == LINK_UNKNOWN ? unknown : link == LINK_DOWN;
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
    atomic_store(&lane->link, LINK_DOWN);
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
