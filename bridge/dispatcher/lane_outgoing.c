#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/error.h"
#include "bridge/config/config.h"
#include "bridge/dispatcher/lane_internal.h"
#include "schemas/encoder.h"
#include "schemas/envelope.h"
#include "schemas/event.h"
#include "schemas/field_policy.h"

/* Destinations kept without a record on the way, so that a topic's name is not made anew for each.
 */
enum { IDLE_DESTINATIONS = 1024, KEY_MAX = 1024 };

/* ---- destinations ---- */

static struct destination **find_destination(struct lane *lane, const char *topic)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    struct destination **at;

    for (const char *c = topic; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 1099511628211u;
    at = &lane->buckets[hash % LANE_BUCKETS];
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

static void free_destinations(struct lane *lane)
{
    for (size_t i = 0; i < LANE_BUCKETS; i++) {
        while (lane->buckets[i]) {
            struct destination *next = lane->buckets[i]->next_in_bucket;

            free(lane->buckets[i]);
            lane->buckets[i] = next;
        }
    }
}

/* ---- a record, from its making to its end ---- */

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

void lane_free_records(struct lane *lane)
{
    /* The analyzer does not follow the list: freeing takes the record out of it. */
    while (lane->all)
        outgoing_free(lane->all); /* NOLINT(clang-analyzer-unix.Malloc) */
    free_destinations(lane);
}
