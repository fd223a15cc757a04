/*
 * What a journal holds, read through the product's own code: what a bridge would find after a
 * start. For the tests of power cuts and for tests/faults/journal.py.
 */
#ifndef TESTS_FAULTS_RECOVERED_H
#define TESTS_FAULTS_RECOVERED_H

#include <stddef.h>
#include <stdint.h>

#include "bridge/journal/journal.h"

struct error;
struct event;

struct recovered_cursor {
    char publisher[64];
    uint64_t seq;
};

struct recovered {
    struct journal *journal; /* open and not started */
    struct journal_reader *reader;
    struct event **events; /* in order */
    size_t event_count;
    struct letter *parked; /* by topic, in order */
    size_t parked_count;
    struct letter *dead; /* in order */
    size_t dead_count;
    struct recovered_cursor cursors[8];
    size_t cursor_count;
};

/* Opens the journal, which is its recovery, and reads everything. Whatever happens,
 * recovered_release() follows. */
int recovered_open(struct recovered *recovered, const struct journal_options *options,
                   struct error *err);

/* Closes the journal, started or not. */
void recovered_release(struct recovered *recovered);

/* The seq of a publisher's cursor; 0 without one. */
uint64_t recovered_cursor(const struct recovered *recovered, const char *publisher);

#endif
