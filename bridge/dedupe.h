/*
 * Recognises events that were seen before: a table of marks in memory, bounded, oldest out first.
 *
 * A mark is a 128-bit keyed hash of account, event id and date_updated, and a 64-bit hash of the
 * event's bytes. It costs 28 bytes and 4 to 8 bytes of index. Time is the caller's, in seconds, and
 * never runs backwards.
 *
 * Threads: one.
 */
#ifndef BRIDGE_DEDUPE_H
#define BRIDGE_DEDUPE_H

#include <stddef.h>
#include <stdint.h>

struct dedupe; /* opaque: defined in dedupe.c */
struct error;
struct event;

enum { DEDUPE_SECRET_SIZE = 192, DEDUPE_IDENTITY_SIZE = 16 };

enum dedupe_answer {
    DEDUPE_NEW,
    DEDUPE_DUPLICATE,
    DEDUPE_CONFLICT, /* the same id and date with other bytes: an event of its own */
};

/* Sets identity and content of an event. `secret` has DEDUPE_SECRET_SIZE random bytes. Any thread.
 */
void dedupe_identify(const unsigned char *secret, struct event *event);

/* Returns owned (dedupe_free), NULL without memory. */
struct dedupe *dedupe_new(uint32_t max_marks, uint32_t window_s, struct error *err);
void dedupe_free(struct dedupe *dedupe);

enum dedupe_answer dedupe_find(const struct dedupe *dedupe, const unsigned char *identity,
                               uint64_t content, uint32_t now_s);

/* Adds a mark; the oldest gives way when the table is full. */
void dedupe_add(struct dedupe *dedupe, const unsigned char *identity, uint64_t content,
                uint32_t now_s);

/* Forgets what is older than the window. */
void dedupe_expire(struct dedupe *dedupe, uint32_t now_s);

/* Forgets everything. */
void dedupe_clear(struct dedupe *dedupe);

size_t dedupe_count(const struct dedupe *dedupe);

/* How far back duplicates are recognised: the window, or less when marks had to give way. */
uint32_t dedupe_reach_s(const struct dedupe *dedupe, uint32_t now_s);

#endif
