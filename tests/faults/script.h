/*
 * A script of events, settled, parked and buried at random but the same for the same seed, that is
 * run on a journal under shim.so. The marks it leaves in the trace say what the world knew when:
 *
 *     S i   event i is handed to the journal
 *     A i   it was answered 2xx
 *     D i   its publisher's broker has it, which the journal is going to be told
 */
#ifndef TESTS_FAULTS_SCRIPT_H
#define TESTS_FAULTS_SCRIPT_H

#include <semaphore.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/journal/delivery.h"
#include "bridge/journal/journal.h"

struct event;

#define SCRIPT_PUBLISHER "kafka"

/* One delivery and the wait for its answer. */
struct script_post {
    struct delivery delivery;
    sem_t answered;
    size_t number;
};

/* Small, with the shortest retention, so that pages are used again and again. Borrows `path`. */
struct journal_options script_options(const char *path);

/* Whether event i of the script is a signed body that is no event. */
bool script_is_opaque(size_t i);

/* The bytes of its body. Returns owned (free). */
char *script_body(size_t i, size_t *out_size);

/* Event i; its id is "e<i>". Returns owned (event_unref). */
struct event *script_event(size_t i);

/* The i of an event, found in its body; SIZE_MAX when it is none of the script's or differs. */
size_t script_number(const struct event *event);

/* Hands event i to the journal; script_wait() must follow. With `marked`, A is written when the
 * answer comes. */
void script_post(struct journal *journal, struct script_post *post, size_t i, bool marked);
enum delivery_outcome script_wait(struct script_post *post);

/* A note, until it is done. */
enum note_result script_note(struct journal *journal, struct note note);

#endif
