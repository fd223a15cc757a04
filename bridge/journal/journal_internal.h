/*
 * What the files of the journal share. Private to journal*.c.
 *
 *   journal.c         open, close, the intake, cursors before the start, numbers
 *   journal_state.c   what is read at a start: the state, the secret, cursors, marks; the clock
 *   journal_writer.c  the thread: batches, answers, trouble and recovery
 *   journal_pace.c    when the writer commits and when it sleeps
 *   journal_commit.c  what one transaction holds: notes, retention, events, marks, state
 *   journal_letters.c parked records and dead letters: writing them
 *   journal_letters_read.c  ... and reading them
 *   journal_chunks.c  how events lie in the store
 *   journal_reader.c  reading events
 *   journal_find.c    finding events by time
 *   journal_conflict.c  the same id and date with other bytes
 *   journal_search.c  what people look for: events, letters, duplicates
 *   journal_records.c what the stored values look like
 */
#ifndef BRIDGE_JOURNAL_JOURNAL_INTERNAL_H
#define BRIDGE_JOURNAL_JOURNAL_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/mailbox.h"
#include "bridge/base/pulse.h"
#include "bridge/journal/dedupe.h"
#include "bridge/journal/delivery.h"
#include "bridge/journal/journal.h"
#include "bridge/journal/journal_pace.h"
#include "bridge/journal/journal_records.h"
#include "bridge/journal/journal_store.h"

struct MDB_val;

enum {
    BATCH_DELIVERIES = 4096,
    BATCH_NOTES = 4096,
    BATCH_BYTES = 16 * 1024 * 1024,
};

/* State that is true only when the commit under way succeeds. */
struct progress {
    struct journal_state state;
    uint64_t head_seq;      /* oldest event kept; next_seq without any */
    uint64_t head_last;     /* last event of its chunk, which is deleted as a whole */
    uint32_t head_age_s;    /* its age by the journal's clock; 0 when it is damaged */
    uint64_t marks_trimmed; /* forgotten marks that are off the disk */
};

struct cursor {
    char publisher[PUBLISHER_SIZE];
    uint64_t seq;     /* durable */
    uint64_t pending; /* in the commit under way */
    bool is_new;      /* made by the commit under way: gone if that fails */
};

/* What one commit takes in. */
struct batch {
    struct delivery *deliveries[BATCH_DELIVERIES];
    bool depends[BATCH_DELIVERIES]; /* the answer is true only after the commit */
    size_t delivery_count;
    struct event *events[BATCH_DELIVERIES]; /* to be published */
    size_t event_count;
    struct event *opaque[BATCH_DELIVERIES]; /* to be dead letters */
    size_t opaque_count;
    size_t conflicts;
    const char *no_room;   /* why an event was refused, if one was ... */
    uint64_t refused_cost; /* ... and what room it needed */
    struct dedupe_mark marks[BATCH_DELIVERIES];
    size_t mark_count;
    struct note *notes[BATCH_NOTES];
    size_t note_count;
    uint64_t event_cost;
    uint64_t letter_cost;
    uint64_t letters_put; /* so far in this commit */
    uint64_t dead_put;
};

/* A queue linked by mailbox nodes. */
struct waiting {
    struct mailbox_node *first;
    struct mailbox_node *last;
};

struct journal {
    struct intake intake;
    const struct clock *clock;
    struct store store;
    struct dedupe *dedupe;
    _Atomic uint32_t retention_s;
    _Atomic uint32_t dedupe_window_s; /* as configured: dedupe takes it over */
    uint32_t dedupe_max;
    unsigned char secret[IDENTITY_SECRET_SIZE];

    /* the journal's clock: age_base_s was true at age_base_us */
    uint32_t age_base_s;
    int64_t age_base_us;

    struct progress durable;
    struct progress next;
    struct cursor *cursors;
    size_t cursor_count;

    struct wakeup wakeup;
    struct pace pace;
    struct mailbox deliveries;
    struct mailbox notes;
    struct waiting waiting_deliveries;
    struct waiting waiting_notes;
    struct batch *batch;
    size_t batch_bytes;
    struct duplicates *duplicates;

    pthread_t thread;
    bool has_thread;
    bool is_loaded; /* everything could be read */
    atomic_bool is_stopping;
    void (*on_stored)(void *context, struct event *const *events, size_t count);
    void *on_stored_context;

    bool is_damaged; /* found when it could not be opened again */
    void (*on_damaged)(void *context);
    void *on_damaged_context;
    bool is_broken; /* the last commit or opening failed: recover before anything else */
    bool is_disk_full;
    uint64_t refused_cost;     /* of the latest event that was refused, until it would fit ... */
    int64_t refused_until_ms;  /* ... or none was refused for some time, monotonic */
    int64_t squeezed_until_ms; /* LMDB said full: no events until then, monotonic */
    int64_t next_recover_ms;   /* monotonic */
    int64_t recover_wait_ms;

    /* numbers, read by any thread */
    _Atomic uint64_t tail;
    _Atomic uint64_t head;
    _Atomic uint64_t bytes;
    _Atomic uint64_t dead_count;
    _Atomic uint64_t dead_tail;
    _Atomic uint64_t dead_bytes;
    _Atomic int64_t window_s;
    _Atomic(const char *) trouble; /* NULL: events are accepted */
    struct pulse pulse;            /* of the writer */
    _Atomic uint64_t conflicts;
    _Atomic uint64_t respelled;
    _Atomic uint64_t trusted;
    _Atomic uint64_t damaged;
};

enum { DUPLICATES_KEPT = 8192 };

/* The latest deliveries that were recognised as duplicates. */
struct duplicates {
    pthread_mutex_t lock;
    unsigned char identities[DUPLICATES_KEPT][DEDUPE_IDENTITY_SIZE]; /* lock: lock */
    size_t next;                                                     /* lock: lock */
};

struct journal_reader {
    struct journal *journal;
};

/* ---- journal_state.c ---- */

int state_load(struct journal *journal, struct error *err);

/* Reads again, after a reopening, what a commit that failed may have left: cursors and dead letters
 * are kept; events and marks that nobody was told of are taken out by the next commit. */
int state_reload(struct journal *journal, struct error *err);

/* The journal's clock in seconds. */
uint32_t journal_age_s(struct journal *journal);

/* NULL: there is none. */
struct cursor *cursor_find(struct journal *journal, const char *publisher);

/* Finds a cursor or makes one in memory; NULL without memory. */
struct cursor *cursor_get(struct journal *journal, const char *publisher);

/* Everything up to this is settled for every publisher. */
uint64_t cursors_minimum(const struct journal *journal);

/* The oldest chunk is this one; without one the journal is empty. */
void progress_set_head(struct progress *progress, const struct MDB_val *key,
                       const struct MDB_val *value);

/* How many marks a stored batch of so many bytes holds, sound or not. */
size_t marks_in(size_t size);

/* Stores a cursor; an LMDB code. */
int cursor_put(struct store *store, struct MDB_txn *txn, const char *publisher, uint64_t seq);

/* The same for a cursor that is new: stores as well that its publisher begins behind `seq`. */
int cursor_put_new(struct store *store, struct MDB_txn *txn, const char *publisher, uint64_t seq);

/* ---- journal_commit.c ---- */

enum commit_result {
    COMMIT_DONE,
    COMMIT_FULL,   /* aborted: LMDB has no page left for it */
    COMMIT_FAILED, /* nothing on this environment is believed any more */
};

/* Writes what the batch holds, and what retention is due, in one transaction. */
enum commit_result commit_batch(struct journal *journal, struct batch *batch, struct error *err);

/* After a reopening: takes out what a failed commit left and proves that commits work. */
enum commit_result commit_recovery(struct journal *journal, struct error *err);

bool retention_is_due(struct journal *journal);

/* ---- journal_letters.c ---- */

enum { TOPIC_HASH_SIZE = 16, PARKED_KEY_TAIL = 8 + 4 };

/* Publisher, 0, hash of the topic, seq, nth: sorts the records of a topic in their order. */
struct parked_key {
    unsigned char bytes[PUBLISHER_SIZE + TOPIC_HASH_SIZE + PARKED_KEY_TAIL];
    size_t size;
};

struct parked_key parked_key(const char *publisher, const char *topic, uint64_t seq, uint32_t nth);

/* The one that a parked record says itself. Under another one it would be sent over and over,
 * because nothing takes it off the list. */
struct parked_key parked_key_of(const struct letter_view *view);
bool parked_key_is_of(const void *key, size_t size, const struct letter_view *view);

/* All return an LMDB code. */
int letters_park(struct store *store, struct MDB_txn *txn, const struct note *note, int64_t now_ms);
int letters_unpark(struct store *store, struct MDB_txn *txn, const char *publisher,
                   const char *topic, uint64_t seq, uint32_t nth);
int letters_bury(struct store *store, struct MDB_txn *txn, const struct note *note, uint64_t id,
                 int64_t now_ms);
/* Both give MDB_NOTFOUND when there is no such dead letter. */
int letters_rebury(struct store *store, struct MDB_txn *txn, const struct note *note,
                   int64_t now_ms);
int letters_drop(struct store *store, struct MDB_txn *txn, uint64_t id);
/* Deletes every parked record of a publisher. */
int letters_drop_parked(struct store *store, struct MDB_txn *txn, const char *publisher);
uint64_t letters_cost(const struct store *store, const struct note *note);

/* ---- journal_search.c ---- */

void duplicates_add(struct duplicates *duplicates, const unsigned char *identity);

/* ---- journal_conflict.c ---- */

/* Whether an event that dedupe_find() calls DEDUPE_CONFLICT is one after all, or a duplicate. The
 * writer's thread, outside of a transaction. */
enum dedupe_verdict conflict_look_closer(struct journal *journal, const struct batch *batch,
                                         const struct event *event, const struct dedupe_mark *mark);

/* ---- journal_writer.c ---- */

void *writer_run(void *argument);

/* Publishes the numbers and whether events are accepted. */
void writer_show(struct journal *journal);

#endif
