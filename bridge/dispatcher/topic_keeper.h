/*
 * Keeps Kafka's topics in order: at the start, after a reload and whenever it is asked to, it looks
 * at the topics that the map in force can publish on, creates what is missing when create_topics
 * says so, and says in log and metrics which are missing, refused or take too little. While no
 * broker answers, it tries again.
 *
 * Threads: one of its own, so that delivery never waits for it; calls from any.
 */
#ifndef BRIDGE_DISPATCHER_TOPIC_KEEPER_H
#define BRIDGE_DISPATCHER_TOPIC_KEEPER_H

#include <stdbool.h>
#include <stdint.h>

struct buf;
struct config;
struct error;
struct metrics;
struct topic_keeper; /* opaque: defined in topic_keeper.c */

/* Takes a reference of `config`, borrows `metrics`. Returns owned (topic_keeper_free), NULL on
 * failure. */
struct topic_keeper *topic_keeper_start(const struct config *config, struct metrics *metrics,
                                        struct error *err);

/* Another configuration is in force, of which it takes a reference: looks soon. */
void topic_keeper_reconfigure(struct topic_keeper *keeper, const struct config *config);

/* Looks soon. */
void topic_keeper_ask(struct topic_keeper *keeper);

/*
 * Looks now, waits for it at most `timeout_ms` and appends what it found, a JSON array of
 * {"topic","state","detail"}: `state` is created, missing, not_created or too_small; topics that
 * were there and fit are left out. False, and nothing is appended: no broker answered in time, or
 * `is_hopeless` says that none will.
 */
bool topic_keeper_look(struct topic_keeper *keeper, int64_t timeout_ms,
                       bool (*is_hopeless)(void *context), void *context, struct buf *json);

/* Gives up what is under way, without waiting for it. NULL is a no-op. */
void topic_keeper_stop(struct topic_keeper *keeper);

/* After topic_keeper_stop(): ends the thread. NULL is a no-op. */
void topic_keeper_free(struct topic_keeper *keeper);

#endif
