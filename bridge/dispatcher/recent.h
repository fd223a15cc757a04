/*
 * The newest events in memory, between the journal's thread, which stores them, and the dispatcher,
 * which publishes them: so that in the steady state nothing is read back from disk. Bounded; what
 * does not fit any more is read from the journal.
 */
#ifndef BRIDGE_DISPATCHER_RECENT_H
#define BRIDGE_DISPATCHER_RECENT_H

#include <stddef.h>
#include <stdint.h>

struct event;
struct recent; /* opaque: defined in recent.c */

/* `tail`: seq of the newest event in the journal at start. Returns owned (recent_free). */
struct recent *recent_new(uint64_t tail);
void recent_free(struct recent *recent);

/* The journal's thread, in order of seq. Takes its own references. */
void recent_put(struct recent *recent, struct event *const *events, size_t count);

/* Any thread: seq of the newest durable event. */
uint64_t recent_tail(const struct recent *recent);

/* Dispatcher: returns owned (event_unref), or NULL when it is not here (any more). */
struct event *recent_get(struct recent *recent, uint64_t seq);

/* Dispatcher: nobody needs the events before `seq` from memory. */
void recent_release_before(struct recent *recent, uint64_t seq);

#endif
