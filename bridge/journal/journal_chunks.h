/*
 * How events lie in the store: in chunks. The records of the events that one commit brings stand
 * one behind the other in a value, as many as CHUNK_BYTES hold, under the number of the last one;
 * a larger record has a value of its own.
 *
 * LMDB gives a long value whole pages: a record of 2 KB alone takes two of their size, and its own
 * walk down the tree. In chunks it takes half the disk, and its commit and its deletion cost half
 * the time. A chunk is deleted as a whole.
 */
#ifndef BRIDGE_JOURNAL_JOURNAL_CHUNKS_H
#define BRIDGE_JOURNAL_JOURNAL_CHUNKS_H

#include <stddef.h>
#include <stdint.h>

#include "bridge/base/text.h"
#include "schemas/event.h"

struct event;

enum {
    CHUNK_BYTES = 16 * 4096 - 16, /* the head of LMDB's first page lies before it */
    CHUNK_RECORDS = CHUNK_BYTES / sizeof(struct event_record) + 1, /* at most */
};

struct chunk_record {
    uint64_t seq;
    struct text bytes; /* inside the value */
};

/* How many of `events` go into the next chunk, at least one of `count`, and their bytes. */
size_t chunk_fill(struct event *const *events, size_t count, size_t *out_bytes);

/*
 * The records of a value that is stored under `last`, in order. Their checksums are for whoever
 * reads them. Bytes that are none lie in a damaged record of their own, or make the one before
 * them damaged: whatever happened to one record, the others are found. Returns how many there are.
 */
size_t chunk_split(struct text value, uint64_t last, struct chunk_record out[CHUNK_RECORDS]);

/* The number of the first of them. */
uint64_t chunk_first(struct text value, uint64_t last);

#endif
