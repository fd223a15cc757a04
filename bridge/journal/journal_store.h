/*
 * The store under the journal: one LMDB environment in a directory of its own, the lock that keeps
 * a second process out, and the room on the disk. Private to journal*.c.
 *
 * Full sync only: a commit returns after the data was synced and the meta page written through an
 * O_DSYNC descriptor (LMDB 0.9.24, mdb_txn_commit). After a failed commit nothing on the old
 * descriptors is believed any more: close and open again (TRAPS 7).
 *
 * Threads: the gate lets readers begin a transaction only while the environment is open, and lets
 * the writer close it only when no reader has one. All else belongs to the writer (or, before it
 * starts, to whoever opened the journal).
 */
#ifndef BRIDGE_JOURNAL_JOURNAL_STORE_H
#define BRIDGE_JOURNAL_JOURNAL_STORE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct MDB_env;
struct MDB_txn;
struct error;

enum store_db {
    STORE_META,    /* name -> value: "state", "secret" */
    STORE_EVENTS,  /* seq -> event record */
    STORE_CURSORS, /* publisher -> seq */
    STORE_MARKS,   /* batch number -> marks of one commit */
    STORE_PARKED,  /* publisher, topic hash, seq, nth -> letter */
    STORE_DEAD,    /* id -> letter */
    STORE_DB_COUNT
};

/* As LMDB knows them. */
extern const char *const store_db_names[STORE_DB_COUNT];

/* Whose keys are 64-bit numbers. */
bool store_has_integer_keys(enum store_db db);

/* Dead letters may take this part of max_size; a full store stops who buries, it never evicts. */
enum { STORE_DEAD_SHARE = 4 };

enum store_room {
    STORE_HAS_ROOM,
    STORE_IS_FULL, /* max_size, or the map behind it */
    STORE_DISK_IS_FULL,
};

struct store {
    char *path;
    int dir_fd;
    int lock_fd;
    uint64_t page_size;
    uint64_t max_size;
    uint64_t reserve; /* map behind max_size, not for events */
    uint64_t map_size;
    uint64_t step; /* the file is extended by so much */

    pthread_rwlock_t gate;
    struct MDB_env *env; /* lock: gate; NULL while closed */
    unsigned db[STORE_DB_COUNT];

    uint64_t used;       /* bytes of pages in use */
    uint64_t dead_used;  /* of them, by dead letters */
    uint64_t dead_count; /* dead letters */
    uint64_t high_water; /* the file up to here has been written by LMDB */
    uint64_t allocated;  /* the file up to here has blocks on the disk */
    int64_t next_try_ms; /* monotonic: when to try again to extend the file */
};

/* Takes the lock and opens or creates the environment. Whatever happens, store_release() follows.
 */
int store_open(struct store *store, const char *path, uint64_t max_size, struct error *err);
void store_release(struct store *store);

/* Only the folder and the lock, without an environment. Whatever happens, store_release() follows.
 */
int store_lock(struct store *store, const char *path, struct error *err);

/* Closes the environment and keeps the lock: waits for the readers. */
void store_close_env(struct store *store);

/* Opens the environment again after store_close_env(). */
int store_open_env(struct store *store, struct error *err);

/*
 * Begins a reading transaction, or fails with ERROR_TRANSIENT while the environment is closed.
 * store_end_read() must follow on the same thread, soon: pages that a reader may see are not
 * reused.
 */
struct MDB_txn *store_begin_read(struct store *store, struct error *err);
void store_end_read(struct store *store, struct MDB_txn *txn);

/* Turns an LMDB code into an error that names the journal; -1. */
int store_error(const struct store *store, const char *what, int rc, struct error *err);

/* ---- how it was left: journal_marker.c ---- */

/* After store_close_env(): notes that everything is in order, for store_is_clean(). */
void store_mark_clean(const struct store *store);

/* Before the environment is opened. Durable when it returns. */
int store_unmark(const struct store *store, struct error *err);

/* True when the journal in the folder was closed in order and nobody has written to its file since.
 */
bool store_is_clean(const char *path);

/* ---- room: journal_space.c ---- */

/* Sizes the map, the reserve and the step for `max_size`. */
void store_plan_space(struct store *store, uint64_t max_size);

/* Reads what is in use, inside a transaction or right after its changes. */
void store_measure(struct store *store, struct MDB_txn *txn);

/* Reads how far LMDB has written the file, after a commit or an open. */
void store_measure_file(struct store *store);

/* What a record of so many bytes takes, in whole pages. */
uint64_t store_cost(const struct store *store, uint64_t size);

/*
 * Sees to it that events that cost `need` can be committed without the disk or the map running
 * full, that what is kept for notes and deletions stays, and that `spare` would fit besides.
 */
enum store_room store_room_for_events(struct store *store, uint64_t need, uint64_t spare,
                                      int64_t now_ms);

/* The same for parked records and dead letters, which may use the reserve. */
bool store_has_room_for_letters(struct store *store, uint64_t need, int64_t now_ms);
bool store_has_room_for_dead(const struct store *store, uint64_t need);

#endif
