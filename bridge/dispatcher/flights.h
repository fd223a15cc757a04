/*
 * Broker mode: an event is in flight from its webhook to the acknowledgement of every destination;
 * nothing is on disk.
 *
 * A delivery of an event that is in flight already shares its outcome. One that is answered 503 may
 * come again: the flight is remembered, and only the destinations that have not acknowledged it are
 * tried again. Marks for dedupe are set after the last acknowledgement. A destination known to be
 * down gives 503 before anything is submitted.
 *
 * Threads: the dispatcher's, but for flights_identify().
 */
#ifndef BRIDGE_DISPATCHER_FLIGHTS_H
#define BRIDGE_DISPATCHER_FLIGHTS_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/config/config.h"
#include "bridge/config/topic_map.h"
#include "bridge/journal/delivery.h"

struct clock;
struct error;
struct event;
struct flights; /* opaque: defined in flights.c */
struct lane;
struct metrics;

struct flights_options {
    const struct config *config;
    struct lane *lanes[PUBLISHER_COUNT];
    struct router *router;
    const struct clock *clock;
    struct metrics *metrics;
};

/* Borrows everything, the configuration until another one is set. Returns owned (flights_close). */
struct flights *flights_open(const struct flights_options *options, struct error *err);

/* Answers what still waits with DELIVERY_UNAVAILABLE. */
void flights_close(struct flights *flights);

/*
 * Another configuration, borrowed; the router has its map already. What is in flight ends as it
 * began. What waits to be delivered again is forgotten with the map it was made under: destinations
 * that had acknowledged it get it twice. From now on a destination that has not answered yet is
 * given the benefit of the doubt, so that a publisher that is new refuses nothing while it
 * connects.
 */
void flights_set_config(struct flights *flights, const struct config *config);

/* Sets the event's identity. Any thread. */
void flights_identify(const struct flights *flights, struct event *event);

/* Takes a delivery on; it is answered by its done(), at the latest after acknowledge_timeout. */
void flights_accept(struct flights *flights, struct delivery *delivery);

/* Answers deliveries whose time is over. Returns the milliseconds until the next one's is, at most
 * 1000. */
int flights_run(struct flights *flights);

/* From now on every new delivery is refused. */
void flights_stop(struct flights *flights);

/* True when no record is on its way. */
bool flights_are_at_rest(const struct flights *flights);

/* NULL when deliveries can be taken, else why not: a static sentence. Any thread. */
const char *flights_trouble(const struct flights *flights);

#endif
