/*
 * Webhook requests as Close sends them, made from bodies that lie in files.
 *
 * Every body is laid out once with its headers in front of it; for each request the event's id, the
 * timestamp and the signature are written into it in place, so that making one costs little more
 * than the HMAC.
 *
 * An id says when its event was due, so that whoever receives it can tell how long it was on the
 * way: "ev_", CLOCK_MONOTONIC in nanoseconds as 16 hex digits, 6 that make it unique.
 *
 * Threads: each has its own.
 */
#ifndef TESTS_BENCH_REQUESTS_H
#define TESTS_BENCH_REQUESTS_H

#include <stddef.h>
#include <stdint.h>

enum { REQUESTS_KEY_SIZE = 32, REQUESTS_ID_DIGITS = 22 };

struct requests; /* opaque: defined in requests.c */

/*
 * `files` hold one body each, with an event id of 22 characters behind `"id": "ev_` where it occurs
 * first. `thread` below 16 keeps the ids of several apart. Ends the program with a sentence when
 * something is wrong. Returns owned (requests_free).
 */
struct requests *requests_new(char *const *files, size_t file_count, const char *path,
                              const unsigned char key[REQUESTS_KEY_SIZE], unsigned thread);
void requests_free(struct requests *requests);

/* The next request; its bytes are lent until the next call. */
const char *requests_next(struct requests *requests, int64_t due_ns, size_t *out_size);

/* When the event with these digits was due; -1 for other ids. */
int64_t requests_due_ns(const char *digits, size_t size);

/* CLOCK_MONOTONIC. */
int64_t requests_now_ns(void);

#endif
