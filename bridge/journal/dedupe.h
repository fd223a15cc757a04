/*
 * The marks of what was received, in memory: bounded, oldest out first.
 *
 * A mark is the identity of an event (a keyed hash), the hash of its bytes, where it lies in the
 * journal and its age by the journal's clock. Marks are added as pending and become firm together,
 * when what they stand for is durable; a failed commit takes them back.
 *
 * Memory: 40 to 48 bytes a mark, touched only as marks arrive. One thread.
 */
#ifndef BRIDGE_JOURNAL_DEDUPE_H
#define BRIDGE_JOURNAL_DEDUPE_H

#include <stddef.h>
#include <stdint.h>

struct dedupe; /* opaque: defined in dedupe.c */
struct error;

enum { DEDUPE_IDENTITY_SIZE = 16 };

struct dedupe_mark {
    unsigned char identity[DEDUPE_IDENTITY_SIZE];
    uint64_t content;
    uint32_t place; /* lower half of the event's number; any without a journal */
    uint32_t age_s; /* the journal's clock when it was received */
};

enum dedupe_verdict {
    DEDUPE_NEW,      /* never seen, or forgotten */
    DEDUPE_SEEN,     /* the same identity and content, firm */
    DEDUPE_PENDING,  /* the same identity and content, not firm yet */
    DEDUPE_CONFLICT, /* the identity with other content only */
};

/*
 * Holds at most `capacity` firm marks, none older than `window_s`, and `pending_max` pending ones.
 * Returns owned (dedupe_free).
 */
struct dedupe *dedupe_new(uint32_t capacity, uint32_t pending_max, uint32_t window_s,
                          struct error *err);
void dedupe_free(struct dedupe *dedupe);

/* Another window from `now_s` on. What a shorter one had forgotten does not come back with a longer
 * one: dedupe_window_s() grows to it. */
void dedupe_set_window(struct dedupe *dedupe, uint32_t window_s, uint32_t now_s);

enum dedupe_verdict dedupe_find(const struct dedupe *dedupe, const struct dedupe_mark *mark);

/* The places of the events with this mark's identity, whatever their content: at most `max`.
 * Returns their number. */
size_t dedupe_places(const struct dedupe *dedupe, const struct dedupe_mark *mark,
                     uint32_t *out_places, size_t max);

/* Adds a pending mark. At most `pending_max` between two calls of dedupe_confirm() or
 * dedupe_take_back(). Ages never fall from one mark to the next. */
void dedupe_add(struct dedupe *dedupe, const struct dedupe_mark *mark);

/* Makes the pending marks firm; the oldest go while there are more than `capacity`. */
void dedupe_confirm(struct dedupe *dedupe);

/* Forgets the pending marks. */
void dedupe_take_back(struct dedupe *dedupe);

/* Forgets firm marks that are older than the window at `now_s`, a bounded number in one call: what
 * is left of them is no longer found all the same. */
void dedupe_expire(struct dedupe *dedupe, uint32_t now_s);

/* Counts marks that were found expired before they were added: see dedupe_forgotten(). */
void dedupe_skip(struct dedupe *dedupe, uint64_t count);

/* How many firm marks were forgotten or skipped since dedupe_new(), oldest first: as many may be
 * deleted from the disk. */
uint64_t dedupe_forgotten(const struct dedupe *dedupe);

size_t dedupe_count(const struct dedupe *dedupe);

/* The age of the newest mark that went for want of room, plus one; 0 when none did. Stored, so that
 * dedupe_window_s() stays true after a restart. */
uint32_t dedupe_evicted(const struct dedupe *dedupe);
void dedupe_set_evicted(struct dedupe *dedupe, uint32_t evicted);

/* How far back a duplicate is recognised at `now_s`. */
uint32_t dedupe_window_s(const struct dedupe *dedupe, uint32_t now_s);

#endif
