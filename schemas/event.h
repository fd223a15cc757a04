/*
 * An event: one block of memory that is, as it stands, also its record in the journal.
 *
 * The block holds a head, the bytes that Close sent, and what had to be made beside them (unescaped
 * strings, the event object of the older payload shape). Fields are slices of the block: nothing is
 * copied on the way from the webhook to the broker.
 *
 * Ownership: an event is counted. event_ref() and event_unref() from any thread; the block does not
 * change after it was sealed by the journal.
 */
#ifndef SCHEMAS_EVENT_H
#define SCHEMAS_EVENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/text.h"

struct error;

enum event_field {
    EVENT_ACCOUNT,         /* name of the account as configured */
    EVENT_ID,              /* event.id */
    EVENT_OBJECT_TYPE,     /* `custom_activity` resolved to `activity.custom_activity` */
    EVENT_ACTION,          /* */
    EVENT_OBJECT_ID,       /* absent (size 0) from here on when missing or null */
    EVENT_LEAD_ID,         /* */
    EVENT_ORGANIZATION_ID, /* */
    EVENT_SUBSCRIPTION_ID, /* */
    EVENT_DATE_CREATED,    /* as Close wrote it */
    EVENT_DATE_UPDATED,    /* as Close wrote it */
    EVENT_TRACEPARENT,     /* from the HTTP header, checked against the W3C grammar */
    EVENT_TRACESTATE,      /* */
    EVENT_OBJECT, /* the event object: the bytes that Close sent, or made from the older shape */
    EVENT_BODY,   /* the whole body, byte for byte */
    EVENT_FIELD_COUNT
};

enum event_flag {
    EVENT_IS_OPAQUE =
        1,              /* authentic, but not an event: only EVENT_ACCOUNT and EVENT_BODY are set */
    EVENT_IS_TEST = 2,  /* made by `close-bridge send` */
    EVENT_FROM_LOG = 4, /* fetched from Close's Event Log; otherwise it came by webhook */
};

enum { EVENT_MAGIC = 0x31564243, EVENT_VERSION = 1 };

struct event_slice {
    uint32_t offset; /* from the start of the record */
    uint32_t size;
};

/* Stored as it is, little endian. What follows the head is bytes that the slices point into. */
struct event_record {
    uint32_t magic;
    uint16_t version;
    uint16_t flags;
    uint64_t checksum;    /* XXH3 of all behind this member, up to `size`; the seed is `flags` */
    uint64_t seq;         /* position in the journal; 0 without one */
    int64_t received_ms;  /* wall clock */
    uint32_t size;        /* of the whole record, head included */
    uint32_t journal_age; /* the journal's own clock, in seconds: see bridge/journal/journal.h */
    struct event_slice fields[EVENT_FIELD_COUNT];
};

struct event {
    atomic_uint references;
    bool has_identity;
    unsigned char identity[16]; /* keyed hash of account, id and date_updated: the journal's or
                                   dispatcher's */
    uint64_t content;           /* hash of the event object's bytes */
    struct event_record *record;
};

/* What is known of an event besides its body. The texts are copied into the event. */
struct event_origin {
    struct text account;
    int64_t received_ms;
    unsigned flags; /* EVENT_IS_TEST, EVENT_FROM_LOG */
    struct text traceparent;
    struct text tracestate;
};

/*
 * Builds an event block: head, then `body` and `padding` zero bytes behind it (for parsers that
 * read ahead). Fields: account, trace fields and body are set. Returns owned (event_unref), NULL
 * without memory.
 */
struct event *event_new(const struct event_origin *origin, struct text body, size_t padding);

/*
 * Appends bytes to the block (over the padding) and makes them a field. May move the block:
 * pointers into it die. Only the maker of the event, before anyone else has it. False without
 * memory or beyond 4 GiB.
 */
bool event_add_field(struct event *event, enum event_field field, struct text value);

/* Makes a field of bytes that already lie inside the block. */
void event_set_slice(struct event *event, enum event_field field, struct text inside);

/* Copies a stored record after checking its checksum and every bound. NULL: damaged or no memory,
 * `err` says. */
struct event *event_from_record(const void *record, size_t size, struct error *err);

/*
 * Looks at a stored record where it lies, without its checksum: copies the head, whose slices are
 * inside the record then. False: it is none.
 */
bool event_peek(struct text record, struct event_record *out_head);

/* A field of a record that was peeked at. */
struct text event_peek_field(struct text record, const struct event_record *head,
                             enum event_field field);

/* Gives the event its place and the checksum. The journal's thread, once. */
void event_seal(struct event *event, uint64_t seq, uint32_t journal_age);

struct event *event_ref(struct event *event);
void event_unref(struct event *event); /* NULL is a no-op */

static inline struct text event_text(const struct event *event, enum event_field field)
{
    const struct event_slice *slice = &event->record->fields[field];

    return (struct text){(const char *)event->record + slice->offset, slice->size};
}

static inline bool event_has(const struct event *event, enum event_flag flag)
{
    return (event->record->flags & (unsigned)flag) != 0;
}

#endif
