/*
 * Dead letters for operators: lists and single ones as JSON, and dropping them. Sending them again
 * is the dispatcher's (retries.h).
 *
 * Threads: any one thread with a reader of its own, while the journal is open; dropping waits for
 * the journal's commits.
 */
#ifndef BRIDGE_CONTROL_DEAD_LETTERS_H
#define BRIDGE_CONTROL_DEAD_LETTERS_H

#include <stddef.h>
#include <stdint.h>

struct buf;
struct error;
struct journal;
struct journal_reader;
struct letter_query;
struct metrics;

/*
 * Appends {"dead_letters":[...],"next":N}, at most `query->max_count` of them, without their
 * bodies. `next` is what `after_id` is for the next page, null at the end; a long search ends early
 * with a short page. -1: the journal cannot be read.
 */
int dead_letters_render(struct journal_reader *reader, const struct letter_query *query,
                        struct buf *json, struct error *err);

/* Appends one with its body. Returns 1, 0 when there is no such letter, -1 on failure. */
int dead_letters_render_one(struct journal_reader *reader, uint64_t id, struct buf *json,
                            struct error *err);

/*
 * Drops the letters that pass the query, whatever its limits, for good; their number is counted in
 * `out_dropped`, also on failure (-1). Takes them off the gauges when `metrics` is not NULL.
 */
int dead_letters_drop(struct journal *journal, struct journal_reader *reader,
                      const struct letter_query *query, struct metrics *metrics,
                      uint64_t *out_dropped, struct error *err);

/* The same for one. Returns 1, 0 when there is no such letter, -1 on failure. */
int dead_letters_drop_one(struct journal *journal, struct journal_reader *reader, uint64_t id,
                          struct metrics *metrics, struct error *err);

#endif
