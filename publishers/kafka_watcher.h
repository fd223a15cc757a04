/*
 * The thread beside a producer: finds out whether a broker answers, and at the end destroys the
 * producer, both of which can block.
 *
 * Each producer has its own, so that one whose end hangs holds up nobody. librdkafka has no
 * "connected" callback; asking for metadata is the question that needs no traffic. It names the
 * topics in use, so the answer also tells librdkafka of topics that have appeared and of rights
 * that came back (TRAPS K6).
 *
 * Threads: all functions from the dispatcher.
 */
#ifndef PUBLISHERS_KAFKA_WATCHER_H
#define PUBLISHERS_KAFKA_WATCHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct error;
struct kafka_watcher; /* opaque: defined in kafka_watcher.c */
struct rd_kafka_s;

enum kafka_answer { KAFKA_ANSWER_NONE, KAFKA_ANSWER_UP, KAFKA_ANSWER_DOWN };

enum { KAFKA_PROBE_MS = 1000 }; /* how long a broker may take to answer */

/*
 * Starts asking. Borrows the producer until kafka_watcher_end(), which takes it. An answer and the
 * producer's end are announced by adding one to `announce_fd`, an eventfd. Returns owned
 * (kafka_watcher_free).
 */
struct kafka_watcher *kafka_watcher_start(struct rd_kafka_s *producer, int announce_fd,
                                          struct error *err);

/* Asks soon, although the last answer was that the broker is up. */
void kafka_watcher_ask(struct kafka_watcher *watcher);

/* The newest answer since the last call; `out_reason` is a static sentence or the broker's name. */
enum kafka_answer kafka_watcher_take(struct kafka_watcher *watcher, char *out_reason,
                                     size_t reason_size);

/* Takes the producer and destroys it on the watcher's thread. Handles and queues are gone before.
 */
void kafka_watcher_end(struct kafka_watcher *watcher);

/* True when the producer is destroyed: nothing of librdkafka's reads the records' memory any more.
 * Waits for it at most `timeout_ms`. */
bool kafka_watcher_is_gone(struct kafka_watcher *watcher, int64_t timeout_ms);

/* After kafka_watcher_end(). One that is not gone is left to itself and frees itself. NULL is a
 * no-op. */
void kafka_watcher_free(struct kafka_watcher *watcher);

#endif
