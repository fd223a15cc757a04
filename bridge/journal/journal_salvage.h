/*
 * What is done about a journal whose file may be damaged: verifying it, and salvaging what is sound
 * into a new one. Neither uses LMDB on the file that is in doubt.
 *
 * Salvage keeps every sound event that is not known to be delivered (and, for replay, those that
 * are), in the order of their numbers, the cursors, parked records, dead letters and marks. What it
 * does not know it takes for undelivered: an event may be published twice, none is left out. Marks
 * that may be of events that are lost are dropped, so that Close, or catch-up, can deliver those
 * again.
 *
 * The damaged file is kept, under the name that the report says. A crash at any moment leaves the
 * old file or the new one in its place.
 *
 * Threads: one, in a process that nobody waits for without a deadline.
 */
#ifndef BRIDGE_JOURNAL_JOURNAL_SALVAGE_H
#define BRIDGE_JOURNAL_JOURNAL_SALVAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/journal/journal_store.h"

struct clock;
struct error;

enum { SALVAGE_NAME_SIZE = 64 };

/* How much is read. */
enum verify_depth {
    VERIFY_PAGES,   /* the pages, and of the values the small ones */
    VERIFY_PENDING, /* besides, the letters and the events that a publisher has not settled */
    VERIFY_ALL,
};

struct verify_report {
    bool is_sound;   /* LMDB can use it, and every value that was looked at is right */
    bool is_foreign; /* it is no journal, but something else's file */
    uint64_t problems;
    char first_problem[160];
    uint64_t entries[STORE_DB_COUNT];
    uint64_t events; /* that were read */
    uint64_t bytes;  /* of the file */
};

struct salvage_report {
    uint64_t events;       /* sound, and kept */
    uint64_t to_publish;   /* of them: not known to be delivered to everybody */
    uint64_t lost;         /* accepted, not known to be delivered, and damaged */
    int64_t lost_since_ms; /* wall clock: they were received after this ... */
    int64_t lost_until_ms; /* ... and before this; 0 when unknown */
    uint64_t cursors;
    bool are_cursors_known; /* else publishers begin with the oldest event */
    uint64_t parked;
    uint64_t dead;
    uint64_t marks;
    bool is_whole;                     /* false: the search was given up half-way */
    char set_aside[SALVAGE_NAME_SIZE]; /* the name of the damaged file in the journal's folder */
};

/*
 * Reads the file of the journal in the folder `path`. Takes the journal's lock. Returns 1, 0 when
 * there is no journal, -1 on failure.
 */
int journal_verify(const char *path, enum verify_depth depth, struct verify_report *out_report,
                   struct error *err);

/* For a journal whose lock is held and whose environment is closed: its file can be read, and is
 * damaged. */
bool store_is_damaged(const struct store *store);

/*
 * Builds a new journal of what is sound in the old one and puts it in its place, the old one aside.
 * Finishes a salvage that a crash interrupted. Takes the journal's lock. Returns as
 * journal_verify().
 */
int journal_salvage(const char *path, const struct clock *clock, struct salvage_report *out_report,
                    struct error *err);

/* Only puts the file aside: for one that cannot be salvaged. */
int journal_set_aside(const char *path, const struct clock *clock, char *out_name,
                      struct error *err);

#endif
