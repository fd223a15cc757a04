/*
 * What is to be salvaged of a damaged file, decided from what was found in it. Private to
 * journal_salvage.c and journal_rebuild.c.
 */
#ifndef BRIDGE_JOURNAL_JOURNAL_PLAN_H
#define BRIDGE_JOURNAL_JOURNAL_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/journal/journal_image.h"
#include "bridge/journal/journal_records.h"
#include "bridge/journal/journal_scan.h"

struct error;

enum { PLAN_CURSORS = 64 };

struct plan_event {
    uint64_t seq;
    uint64_t offset;
    int64_t received_ms;
    uint32_t checksum; /* half of it tells two apart */
    uint32_t size;
    uint32_t age_s;
    uint8_t rank;
    bool is_extra; /* is published again under a new number */
};

struct plan_letter {
    uint64_t id; /* 0: a parked record */
    uint64_t seq;
    uint64_t place; /* of a parked one: hash of publisher and topic */
    uint64_t offset;
    int64_t last_ms;
    uint32_t size;
    uint32_t nth;
    uint8_t rank;
};

struct plan_marks {
    uint64_t offset;
    uint32_t size;
    uint32_t age_s;
    uint32_t count;
};

struct plan {
    const struct image *image;
    struct journal_state state; /* with the numbers from which a new journal goes on */
    bool has_state;
    bool is_state_current; /* it is that of the newest commit */
    struct secret_record secret;
    bool has_secret;
    struct cursor_record cursors[PLAN_CURSORS];
    size_t cursor_count;
    uint64_t settled;          /* for everybody; 0 when it is not known */
    struct plan_event *events; /* by seq, those that are extra last */
    size_t event_count;
    struct plan_letter *letters; /* parked ones in the order of their places, then dead ones */
    size_t letter_count;
    struct plan_marks *marks; /* by age */
    size_t mark_batches;
    uint32_t marked_until_s; /* marks of this age and later are made of the events that are kept */
    uint64_t lost;
    int64_t lost_since_ms;
    int64_t lost_until_ms;
    bool is_whole; /* the search was not given up */
};

/* Searches the image and decides. plan_release() follows, whatever it returns. -1: no memory. */
int plan_make(struct plan *plan, const struct image *image, struct error *err);
void plan_release(struct plan *plan);

/* True when nothing worth keeping was found. */
bool plan_is_empty(const struct plan *plan);

#endif
