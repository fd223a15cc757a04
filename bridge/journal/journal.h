/*
 * The journal: what makes a 2xx true.
 *
 * One LMDB environment, one writer thread, one commit (data and meta synced) for everything that
 * waits. An event is answered only after the commit that holds it. Beside the events it keeps the
 * cursor of every publisher, the dedupe marks, parked records and dead letters.
 *
 * Cursors: everything up to and including a publisher's cursor is settled for it, in events, parked
 * or dead. Events are deleted only when every cursor has passed them and either their retention is
 * over or their space is needed.
 *
 * Time: ages (dedupe window, retention) are counted by the journal's own clock, which advances with
 * monotonic time while the journal is open and is stored with the data, so that a jump of the wall
 * clock never expires anything.
 *
 * Space: the map is max_size plus a reserve that only deletions, cursors, parked records and dead
 * letters may use, because a full LMDB does not empty by itself (TRAPS 8). The file is extended
 * ahead with fallocate; its failure is "disk full".
 *
 * Threads: journal_accept(), journal_note(), journal_identify(), what says so and the counters from
 * any thread; a reader belongs to one thread; the rest belongs to the thread that opened it.
 */
#ifndef BRIDGE_JOURNAL_JOURNAL_H
#define BRIDGE_JOURNAL_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/mailbox.h"
#include "bridge/base/text.h"
#include "bridge/journal/delivery.h"

struct clock;
struct error;
struct event;
struct journal;        /* opaque: defined in journal_internal.h */
struct journal_reader; /* opaque */

struct journal_options {
    const char *path; /* a directory, made with mode 0700 when missing */
    uint64_t max_size;
    int64_t retention_ms;
    int64_t dedupe_window_ms;
    uint32_t dedupe_max;
    /* May be NULL. Called once, on the writer's thread, when the file turns out to be damaged: from
     * then on nothing is stored any more, and the process should end, to salvage it at its start.
     */
    void (*on_damaged)(void *context);
    void *on_damaged_context;
};

/*
 * Opens or creates the journal: takes the lock (a second instance gets ERROR_CONFIG "... is in use
 * by process N"), clears readers left by a crash, rebuilds the dedupe marks. Borrows `clock`.
 * Returns owned (journal_close), NULL on failure.
 */
struct journal *journal_open(const struct journal_options *options, const struct clock *clock,
                             struct error *err);

/* Before journal_start(): the cursor of a publisher. A new one is made durable at the journal's
 * end. */
int journal_open_cursor(struct journal *journal, const char *publisher, uint64_t *out_seq,
                        struct error *err);

/*
 * The same after journal_start(), from any thread that may wait for a commit: when it returns 0,
 * the cursor is durable and stands before every event that comes later. ERROR_TRANSIENT when the
 * journal cannot store it now.
 */
int journal_add_cursor(struct journal *journal, const char *publisher, uint64_t *out_seq,
                       struct error *err);

/*
 * Other ages, in force with the next commit. A longer dedupe window does not bring back what was
 * forgotten: it grows from now on. Any thread.
 */
void journal_set_ages(struct journal *journal, int64_t retention_ms, int64_t dedupe_window_ms);

/* Calls `visit` for every stored cursor: also those of publishers that are no longer configured.
 * Before journal_start(). */
void journal_visit_cursors(struct journal *journal,
                           void (*visit)(void *context, const char *publisher, uint64_t seq),
                           void *context);

/*
 * Forgets a publisher that is configured no more: its cursor, which pins events, and its parked
 * records. Dead letters stay. ERROR_INPUT when the journal does not know it. Before
 * journal_start().
 */
int journal_drop_publisher(struct journal *journal, const char *publisher, struct error *err);

/*
 * Starts the writer. `on_stored` is called on its thread after each commit with the new events in
 * order; it takes its own references.
 */
int journal_start(struct journal *journal,
                  void (*on_stored)(void *context, struct event *const *events, size_t count),
                  void *context, struct error *err);

/* Finishes what waits, commits, joins the thread, frees. Later notes are not allowed. NULL is a
 * no-op. */
void journal_close(struct journal *journal);

/* The journal as an intake. Lives as long as the journal. */
struct intake *journal_intake(struct journal *journal);

/* ---- bookkeeping: what the dispatcher reports ---- */

enum note_kind {
    NOTE_CURSOR,      /* publisher: everything up to `seq` is settled */
    NOTE_OPEN_CURSOR, /* publisher: made at the journal's end unless there is one; sets `seq` to
                         where it stands */
    NOTE_PARK,        /* event, publisher, topic, nth, reason: wait in the topic's list */
    NOTE_UNPARK,      /* publisher, topic, seq, nth: delivered, leave the list */
    NOTE_BURY,   /* event, publisher, topic, reason: a dead letter; with `was_parked` it leaves the
                    topic's list */
    NOTE_REBURY, /* as NOTE_BURY, and letter: a retry of that dead letter failed; it keeps its
                    number and its first date */
    NOTE_DROP,   /* letter: that dead letter was delivered, or an operator gives it up */
};

enum note_result {
    NOTE_STORED,
    NOTE_FULL,   /* the store for dead letters or parked records is full: try again later */
    NOTE_FAILED, /* nothing was stored; the journal is in trouble and says so itself: try again
                    later */
    NOTE_ABSENT, /* there is no such dead letter any more */
};

struct note {
    struct mailbox_node node;
    enum note_kind kind;
    const char *publisher; /* borrowed until done */
    const char *topic;     /* borrowed until done */
    const char *reason;    /* static code such as "too_large" */
    struct event *event;   /* the note's own reference until done */
    uint64_t seq;
    uint64_t letter; /* number of a dead letter */
    uint32_t nth;    /* ordinal among the records of one event for one topic */
    bool was_parked;
    enum note_result result;
    void (*done)(struct note *self); /* on the journal's thread, after the commit; must not block */
};

void journal_note(struct journal *journal, struct note *note);

/* ---- reading: the dispatcher, after a start and for publishers that fell behind ---- */

/* Returns owned (journal_reader_close). */
struct journal_reader *journal_reader_open(struct journal *journal, struct error *err);
void journal_reader_close(struct journal_reader *reader);

/*
 * Reads events from `from_seq` on, in order, at most `max_count` and, but for the first,
 * `max_bytes`. Fills `out_events` with owned references. A damaged record is logged, counted and
 * passed over. Returns the number read, 0 at the end, -1 on failure.
 */
int journal_read(struct journal_reader *reader, uint64_t from_seq, size_t max_count,
                 size_t max_bytes, struct event **out_events, struct error *err);

/*
 * The number of the first event that was received at `received_ms` or later, one after the newest
 * when all are older. Numbers follow the time of receipt but for what lies between two threads, or
 * a clock that was set back: look from some time before.
 */
int journal_find(struct journal_reader *reader, int64_t received_ms, uint64_t *out_seq,
                 struct error *err);

/*
 * The newest event that there was when the publisher was added: it was never asked to publish that
 * one, nor those before it. 0: it may have been there as long as the events.
 */
int journal_first(struct journal_reader *reader, const char *publisher, uint64_t *out_seq,
                  struct error *err);

/* A parked record or a dead letter. */
struct letter {
    uint64_t id; /* dead letters: their number; parked: the event's seq */
    uint32_t nth;
    char publisher[64];
    char topic[1025];
    char reason[64];
    int64_t first_ms; /* wall clock: when it was parked, or first failed */
    int64_t last_ms;
    struct event *event; /* owned by whoever read it */
};

/* Which letters, and how many of them: at most `max_count` and, but for the first, `max_bytes`. */
struct letter_query {
    const char *publisher; /* NULL: any; the texts are borrowed */
    const char *topic;
    const char *reason;
    uint64_t after_id;  /* dead letters: with a larger number; parked: the event's seq ... */
    uint32_t after_nth; /* ... and its nth */
    size_t max_count;
    size_t max_bytes;
};

/* Parked records of one publisher and topic in order, whatever their reason. Returns as
 * journal_read(). */
int journal_read_parked(struct journal_reader *reader, const struct letter_query *query,
                        struct letter *out_letters, struct error *err);

/* Every topic that has parked records, with their number and the oldest first_ms. Before the
 * dispatcher starts. */
int journal_visit_parked(struct journal_reader *reader,
                         void (*visit)(void *context, const char *publisher, const char *topic,
                                       uint64_t count, int64_t first_ms, const char *reason),
                         void *context, struct error *err);

/* Calls `visit` for every dead letter, with the publisher that it is of. Before the dispatcher
 * starts. */
int journal_visit_dead(struct journal_reader *reader,
                       void (*visit)(void *context, const char *publisher), void *context,
                       struct error *err);

/*
 * Dead letters in order. Returns as journal_read(), but looks at a bounded number of them: the next
 * call goes on after `*out_after`, which is UINT64_MAX at the end.
 */
int journal_read_dead(struct journal_reader *reader, const struct letter_query *query,
                      struct letter *out_letters, uint64_t *out_after, struct error *err);

/* Where a dead letter stands among the others, and its event in the journal. */
struct letter_place {
    uint64_t id;
    uint64_t seq;
    uint32_t nth;
};

/* As journal_read_dead(), without the letters themselves: at most `query->max_count` places. */
int journal_list_dead(struct journal_reader *reader, const struct letter_query *query,
                      struct letter_place *out_places, uint64_t *out_after, struct error *err);

/* ---- searching: for people, a bounded number of rows at a time ---- */

struct event_query {
    const char *id; /* NULL: any; the texts are borrowed */
    const char *lead_id;
    const char *object_type;
    int64_t since_ms; /* received at this time or later, by the wall clock */
};

/*
 * Goes back through the events before number `*inout_before` (UINT64_MAX: from the newest), at most
 * `max_rows` of them, until `max_count` match. Fills `out_events` with owned references, newest
 * first, and sets `*inout_before` to the number that the next call goes on before: 1 at the oldest.
 * Returns as journal_read().
 */
int journal_search(struct journal_reader *reader, const struct event_query *query,
                   uint64_t *inout_before, size_t max_rows, size_t max_count,
                   struct event **out_events, struct error *err);

/* True when the query means the event; `record` need not be sound. */
bool event_query_matches(const struct event_query *query, struct text record);

enum letter_list { LETTERS_PARKED, LETTERS_DEAD };

/* Where a walk through letters stands; begin with zeros. */
struct letter_walk {
    unsigned char key[128];
    size_t key_size;
};

/*
 * Calls `visit` for the next letters of the list, at most `max_rows`: dead ones from the newest
 * back, parked ones in the order of their keys. What is visited lies in the journal's memory until
 * the visit returns. False from `visit` ends the walk. Returns 1 when there may be more, 0 at the
 * end, -1 on failure.
 */
struct letter_view;
int journal_walk_letters(struct journal_reader *reader, enum letter_list list,
                         struct letter_walk *walk, size_t max_rows,
                         bool (*visit)(void *context, const struct letter_view *letter),
                         void *context, struct error *err);

/* How many deliveries of the event were recognised as duplicates, as far back as the latest
 * thousands are remembered; not over a restart. Any thread. */
unsigned journal_duplicates(struct journal *journal, struct event *event);

/* ---- numbers, any thread ---- */

struct journal_numbers {
    uint64_t tail;           /* seq of the newest durable event */
    uint64_t head;           /* seq of the oldest event kept */
    uint64_t bytes;          /* pages in use */
    uint64_t max_bytes;      /* max_size */
    uint64_t dead_count;     /* dead letters kept */
    uint64_t dead_tail;      /* id of the newest dead letter */
    uint64_t dead_bytes;     /* pages in use by dead letters */
    uint64_t dead_max_bytes; /* a quarter of max_size: with more, nothing is buried */
    int64_t dedupe_window_s; /* how far back duplicates are recognised now: less than configured
                                when dedupe_max was hit */
    bool can_accept;         /* false: full, disk full, or the store is in trouble */
    const char *trouble;     /* with !can_accept: a static sentence */
    uint64_t conflicts;      /* same id and date, other bytes: published and counted */
    uint64_t respelled;      /* duplicates of which one came by webhook, one from the Event Log, and
                                which only their spelling tells apart */
    uint64_t trusted;        /* duplicates from the Event Log by id and date alone: the first copy
                                was delivered and is deleted */
    uint64_t damaged;        /* records passed over */
};

void journal_numbers(struct journal *journal, struct journal_numbers *out_numbers);

/* How long the writer has been at the commit under way; 0 without one. Any thread. */
int64_t journal_busy_ms(const struct journal *journal);

#endif
