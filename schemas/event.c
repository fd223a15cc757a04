#include "schemas/event.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "bridge/base/error.h"

static const size_t checksum_start = offsetof(struct event_record, seq);

static struct event *new_block(size_t size)
{
    struct event *event = calloc(1, sizeof(*event));

    if (!event)
        return NULL;
    event->record = malloc(size);
    if (!event->record) {
        free(event);
        return NULL;
    }
    atomic_init(&event->references, 1);
    return event;
}

/* Appends to a block that has room. */
static void put_field(struct event *event, enum event_field field, struct text value)
{
    struct event_record *record = event->record;

    record->fields[field] = (struct event_slice){record->size, (uint32_t)value.size};
    if (value.size)
        memcpy((char *)record + record->size, value.data, value.size);
    record->size += (uint32_t)value.size;
}

struct event *event_new(const struct event_origin *origin, struct text body, size_t padding)
{
    size_t size = sizeof(struct event_record) + origin->account.size + origin->traceparent.size +
                  origin->tracestate.size + body.size;
    struct event *event;

    if (size + padding > UINT32_MAX)
        return NULL;
    event = new_block(size + padding);
    if (!event)
        return NULL;
    memset(event->record, 0, sizeof(*event->record));
    event->record->magic = EVENT_MAGIC;
    event->record->version = EVENT_VERSION;
    event->record->flags = (uint16_t)origin->flags;
    event->record->received_ms = origin->received_ms;
    event->record->size = sizeof(*event->record);
    put_field(event, EVENT_ACCOUNT, origin->account);
    put_field(event, EVENT_TRACEPARENT, origin->traceparent);
    put_field(event, EVENT_TRACESTATE, origin->tracestate);
    put_field(event, EVENT_BODY, body);
    memset((char *)event->record + size, 0, padding);
    return event;
}

bool event_add_field(struct event *event, enum event_field field, struct text value)
{
    size_t size = event->record->size + value.size;
    struct event_record *record;

    if (size > UINT32_MAX)
        return false;
    record = realloc(event->record, size);
    if (!record)
        return false;
    event->record = record;
    put_field(event, field, value);
    return true;
}

void event_set_slice(struct event *event, enum event_field field, struct text inside)
{
    size_t offset = (size_t)(inside.data - (const char *)event->record);

    event->record->fields[field] = (struct event_slice){(uint32_t)offset, (uint32_t)inside.size};
}

static uint64_t checksum(const struct event_record *record)
{
    return XXH3_64bits_withSeed((const char *)record + checksum_start,
                                record->size - checksum_start, record->flags);
}

static bool check_slices(const struct event_record *record, size_t size)
{
    for (size_t i = 0; i < EVENT_FIELD_COUNT; i++) {
        struct event_slice slice = record->fields[i];

        if (slice.size > size || slice.offset > size - slice.size)
            return false;
    }
    return true;
}

static int check_record(const struct event_record *record, size_t size, struct error *err)
{
    if (size < sizeof(*record) || record->magic != EVENT_MAGIC || record->size != size)
        return error_set(err, ERROR_INPUT, "not an event record");
    if (record->version != EVENT_VERSION)
        return error_set(err, ERROR_INPUT, "event record of unknown version %u", record->version);
    if (record->checksum != checksum(record))
        return error_set(err, ERROR_INPUT, "the checksum of the event record does not match");
    if (!check_slices(record, size))
        return error_set(err, ERROR_INPUT, "the event record has a field outside itself");
    return 0;
}

bool event_peek(struct text record, struct event_record *out_head)
{
    if (record.size < sizeof(*out_head))
        return false;
    memcpy(out_head, record.data, sizeof(*out_head));
    return out_head->magic == EVENT_MAGIC && out_head->version == EVENT_VERSION &&
           out_head->size == record.size && check_slices(out_head, record.size);
}

struct text event_peek_field(struct text record, const struct event_record *head,
                             enum event_field field)
{
    return (struct text){record.data + head->fields[field].offset, head->fields[field].size};
}

struct event *event_from_record(const void *record, size_t size, struct error *err)
{
    struct event *event =
        new_block(size < sizeof(struct event_record) ? sizeof(struct event_record) : size);

    if (!event) {
        error_set(err, ERROR_FATAL, "out of memory");
        return NULL;
    }
    memcpy(event->record, record, size); /* first, because what is stored need not be aligned */
    if (check_record(event->record, size, err) < 0) {
        event_unref(event);
        return NULL;
    }
    return event;
}

void event_seal(struct event *event, uint64_t seq, uint32_t journal_age)
{
    event->record->seq = seq;
    event->record->journal_age = journal_age;
    event->record->checksum = checksum(event->record);
}

struct event *event_ref(struct event *event)
{
    atomic_fetch_add_explicit(&event->references, 1, memory_order_relaxed);
    return event;
}

void event_unref(struct event *event)
{
    if (!event || atomic_fetch_sub_explicit(&event->references, 1, memory_order_acq_rel) != 1)
        return;
    free(event->record);
    free(event);
}
