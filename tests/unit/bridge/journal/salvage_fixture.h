/*
 * What the tests of a damaged journal share: its file as bytes, the product's verification and
 * salvage, and a journal with something of everything. Failures assert.
 */
#ifndef TESTS_UNIT_BRIDGE_JOURNAL_SALVAGE_FIXTURE_H
#define TESTS_UNIT_BRIDGE_JOURNAL_SALVAGE_FIXTURE_H

#include <stddef.h>
#include <stdint.h>

#include "bridge/journal/journal.h"
#include "bridge/journal/journal_salvage.h"
#include "tests/unit/bridge/journal/journal_fixture.h"

enum { PAGE = 4096 };

/* The path of a file of the journal's folder. */
void salvage_path(const struct fixture *fixture, const char *name, char out[400]);

/* The journal's file. Returns owned (free). */
unsigned char *salvage_read(const struct fixture *fixture, size_t *out_size);
void salvage_write(const struct fixture *fixture, const unsigned char *bytes, size_t size);

/* Where a text first stands in the file. */
size_t salvage_find(const unsigned char *bytes, size_t size, const char *text);

struct verify_report salvage_verify(const struct fixture *fixture, enum verify_depth depth);

/* Salvages; what was set aside is there. */
struct salvage_report salvage_run(const struct fixture *fixture);

void salvage_assert_sound(const struct fixture *fixture);

/* Stores an event in a commit of its own. Returns owned (event_unref). */
struct event *salvage_store(struct fixture *fixture, const char *id, size_t size);

/* Parks or buries an event for Kafka. */
void salvage_store_letter(struct fixture *fixture, enum note_kind kind, struct event *event,
                          const char *topic);

/*
 * 40 events, small and large, the last 16 of them in one commit; 10 are settled, one parked, one
 * dead, and a body is no event. The journal is closed.
 */
void salvage_fill(struct fixture *fixture);

/* Of Kafka. */
uint64_t salvage_cursor(struct fixture *fixture);

/* How many records are parked. */
uint64_t salvage_parked(struct fixture *fixture);

#endif
