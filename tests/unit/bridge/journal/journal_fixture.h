/*
 * What the tests of the journal share: a journal in a folder of its own, deliveries and notes that
 * can be waited for, a clock that the test turns. Failures assert.
 */
#ifndef TESTS_UNIT_BRIDGE_JOURNAL_FIXTURE_H
#define TESTS_UNIT_BRIDGE_JOURNAL_FIXTURE_H

#include <semaphore.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/clock.h"
#include "bridge/journal/journal.h"

struct event;

enum { FIXTURE_STORED_MAX = 200000 };

struct fixture {
    char path[256];
    struct journal_options options;
    struct clock clock; /* first thing the journal sees of time */
    _Atomic int64_t monotonic_us;
    _Atomic int64_t wall_ms;
    struct journal *journal;
    struct journal_reader *reader;
    uint64_t stored[FIXTURE_STORED_MAX]; /* seqs announced by on_stored; the journal's thread */
    _Atomic size_t stored_count;
};

/* One delivery and the wait for its answer. */
struct post {
    struct delivery delivery;
    sem_t answered;
};

/* cmocka's setup and teardown: the folder is made, the journal is not opened yet. */
int fixture_setup(void **state);
int fixture_teardown(void **state);

/* With the fake clock, or the system's. Makes the cursor of the publisher "kafka" and starts. */
void fixture_open(struct fixture *fixture);
void fixture_open_with(struct fixture *fixture, const struct clock *clock);
/* Opens it with these waiting, so that they come in one commit; takes them and waits until they are
 * accepted. */
void fixture_open_with_waiting(struct fixture *fixture, struct event *const *events, size_t count);
void fixture_close(struct fixture *fixture);
void fixture_reopen(struct fixture *fixture);

struct event *fixture_event(const char *id, const char *date_updated, const char *object,
                            size_t body_size);
struct event *fixture_opaque(const char *body);

void fixture_send(struct fixture *fixture, struct post *post, struct event *event);
/* Behind another one: see struct delivery. */
void fixture_send_after(struct fixture *fixture, struct post *post, const struct delivery *before,
                        struct event *event);
enum delivery_outcome fixture_wait(struct post *post);
enum delivery_outcome fixture_post(struct fixture *fixture, struct event *event);
/* The usual event: its object and body follow from its id. */
enum delivery_outcome fixture_post_id(struct fixture *fixture, const char *id);

/* Posts events until the first is refused; returns how many were accepted. */
size_t fixture_fill(struct fixture *fixture, const char *prefix, size_t body_size);

enum note_result fixture_note(struct fixture *fixture, struct note note);
enum note_result fixture_settle(struct fixture *fixture, uint64_t seq);

/* The ids of all events from `from_seq` on, joined by spaces, in `out`. Returns their number. */
size_t fixture_read_ids(struct fixture *fixture, uint64_t from_seq, char *out, size_t capacity);
size_t fixture_count(struct fixture *fixture);
bool fixture_has_id(struct fixture *fixture, const char *id);

struct journal_numbers fixture_numbers(struct fixture *fixture);

/* Polls until `is_so`, at most ten seconds. */
bool fixture_until(struct fixture *fixture, bool (*is_so)(struct fixture *fixture));

#endif
