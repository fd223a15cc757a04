/*
 * Looks for the journal's values in the bytes of its file, whatever state the file is in: every
 * value begins with a magic number, says its size and carries a checksum (journal_records.h,
 * schemas/event.h).
 *
 * Threads: one.
 */
#ifndef BRIDGE_JOURNAL_JOURNAL_SCAN_H
#define BRIDGE_JOURNAL_JOURNAL_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/base/text.h"

struct error;
struct image;

enum scan_kind { SCAN_EVENT, SCAN_LETTER, SCAN_CURSOR, SCAN_STATE, SCAN_SECRET, SCAN_MARKS };

/* What the page says of the value; a later one is worth more. */
enum scan_rank {
    SCAN_STALE,   /* in a page that is free: it was deleted, or is an older version */
    SCAN_UNKNOWN, /* in a page that could not be reached */
    SCAN_CURRENT, /* in a page of the newest tree */
};

struct scan_find {
    enum scan_kind kind;
    enum scan_rank rank;
    uint64_t offset;
    struct text bytes; /* sound; gone after the call */
    bool is_orphan;    /* an event behind what looks like a letter with a damaged head */
};

/*
 * Calls `found` for every sound value. Ends whatever the bytes are: a file that is made to look
 * like very many damaged values is given up half-way, which `out_is_whole` says. -1: no memory.
 */
int image_scan(const struct image *image,
               void (*found)(void *context, const struct scan_find *find), void *context,
               bool *out_is_whole, struct error *err);

#endif
