/*
 * The journal's files: the LMDB environment, its databases, its space, and what is written into
 * them in one transaction.
 *
 * Threads: one writer (the journal's thread, or the one that opens). Readers take `guard` for
 * reading around their transactions, because after a failed commit the environment is closed and
 * opened again (TRAPS 7, 8).
 */
#ifndef BRIDGE_JOURNAL_STORE_H
#define BRIDGE_JOURNAL_STORE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lmdb.h>

#include "bridge/dedupe.h"
#include "bridge/journal.h"

enum { STORE_MAX_CURSORS = 16, STORE_MAX_NAME = 63 };

enum store_db { DB_EVENTS, DB_CURSORS, DB_MARKS, DB_PARKED, DB_DEAD, DB_META, DB_COUNT };

struct store_cursor {
    char name[STORE_MAX_NAME + 1];
    uint64_t seq;
};

/* A dedupe mark as it is stored: 28 bytes. */
struct store_mark {
    unsigned char identity[DEDUPE_IDENTITY_SIZE];
    unsigned char content[8];
    uint32_t time_s;
};

struct store {
    char *path;
    MDB_env *env;
    MDB_dbi dbs[DB_COUNT];
    pthread_rwlock_t guard; /* env and dbs */
    int lock_fd;
    int data_fd; /* for fallocate */
    size_t page_size;
    uint64_t max_size;
    uint64_t map_size;
    uint64_t allocated; /* of the file, in bytes */
    unsigned char secret[DEDUPE_SECRET_SIZE];
    struct store_cursor cursors[STORE_MAX_CURSORS]; /* as committed */
    size_t cursor_count;
    uint64_t tail;      /* seq of the newest event */
    uint64_t head;      /* seq of the oldest event, tail + 1 without one */
    uint64_t dead_tail; /* id of the newest dead letter ever */
    uint64_t dead_count;
    uint64_t mark_tail; /* key of the newest record of marks */
    uint64_t mark_count;
    uint32_t newest_age_s; /* the journal's clock as last stored */
};

/* Opens or creates. Everything in `store` is set. */
int store_open(struct store *store, const char *path, uint64_t max_size, struct error *err);
void store_close(struct store *store);

/* Closes the environment and opens it again: what was committed is what it holds. */
int store_reopen(struct store *store, struct error *err);

/* Sets `err` to what an LMDB code means here; always -1. */
int store_error(struct error *err, int code, const char *doing);

/* Bytes of the pages in use, and of the file up to the highest page ever used. */
int store_space(struct store *store, MDB_txn *txn, uint64_t *out_used, uint64_t *out_high_water);
uint64_t store_db_bytes(struct store *store, MDB_txn *txn, enum store_db db);

/* Makes sure that `bytes` can be written without asking the disk for more. False: the disk is full.
 */
bool store_extend(struct store *store, uint64_t high_water, uint64_t bytes);

/* Calls `visit` for every stored mark, oldest first. */
int store_load_marks(struct store *store,
                     void (*visit)(void *context, const struct store_mark *mark), void *context,
                     struct error *err);

/* ---- inside a write transaction; LMDB's codes are returned ---- */

int store_put_event(struct store *store, MDB_txn *txn, struct event *event);
int store_put_marks(struct store *store, MDB_txn *txn, uint64_t key, const struct store_mark *marks,
                    size_t count);
int store_put_cursor(struct store *store, MDB_txn *txn, const char *name, uint64_t seq);
int store_put_parked(struct store *store, MDB_txn *txn, const struct note *note, int64_t now_ms);
int store_delete_parked(struct store *store, MDB_txn *txn, const struct note *note,
                        int64_t *out_first_ms);
int store_put_dead(struct store *store, MDB_txn *txn, uint64_t id, const struct note *note,
                   int64_t first_ms, int64_t now_ms);

/* Deletes up to `limit` events from the oldest on, up to `last_seq`, those older than
 * `expired_age_s` only unless `for_space`. Sets how many went. */
int store_delete_events(struct store *store, MDB_txn *txn, uint64_t last_seq, bool for_space,
                        uint32_t now_s, uint32_t retention_s, size_t limit, size_t *out_deleted);

/* Deletes records of marks that expired or are more than `max_marks`, at most `limit`. Sets how
 * many marks went. */
int store_delete_marks(struct store *store, MDB_txn *txn, uint32_t now_s, uint32_t window_s,
                       uint64_t mark_count, uint64_t max_marks, size_t limit,
                       uint64_t *out_deleted);

/* ---- letters, for readers ---- */

enum { STORE_PARKED_KEY_MAX = 1 + STORE_MAX_NAME + 8 + 8 + 4 };

size_t store_parked_key(unsigned char *key, const char *publisher, const char *topic, uint64_t seq,
                        uint32_t nth);

/* Reads a stored letter; the event only with `with_event`. False: damaged. */
bool store_read_letter(const MDB_val *value, struct letter *out_letter, bool with_event);

#endif
