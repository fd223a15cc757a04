#include <errno.h>
#include <string.h>

#include <lmdb.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/journal/journal_chunks.h"
#include "bridge/journal/journal_internal.h"
#include "schemas/event.h"

/*
 * What one commit holds. Everything here works on `journal->next`, which becomes `journal->durable`
 * when LMDB has synced it, and on the cursors' `pending`.
 */

enum {
    RETENTION_STEP = 256, /* chunks deleted in one commit, or twice what it appends if more */
    TRIM_STEP = 64,       /* batches of marks deleted in one commit */
    SPACE_PERCENT = 90,   /* delivered events give way above this part of max_size */
};

static MDB_val number_val(uint64_t *number)
{
    return (MDB_val){sizeof(*number), number};
}

/* ---- notes ---- */

static int put_cursor(struct journal *journal, MDB_txn *txn, const struct note *note)
{
    struct cursor *cursor = cursor_get(journal, note->publisher);
    int rc;

    if (!cursor)
        return ENOMEM;
    if (note->seq <= cursor->pending)
        return 0;
    rc = cursor_put(&journal->store, txn, cursor->publisher, note->seq);
    if (rc == 0)
        cursor->pending = note->seq;
    return rc;
}

/* A row is written even for the start of an empty journal: without one the cursor would be made
 * anew at the next start, behind what came meanwhile. */
static int open_cursor(struct journal *journal, MDB_txn *txn, struct note *note)
{
    struct cursor *cursor = cursor_find(journal, note->publisher);
    bool is_new = cursor == NULL;

    cursor = cursor_get(journal, note->publisher);
    if (!cursor)
        return ENOMEM;
    if (is_new) {
        cursor->is_new = true;
        /* Those that count dead letters begin with the first that is kept. */
        if (cursor_pins_events(note->publisher))
            cursor->pending = journal->next.state.next_seq - 1;
    }
    note->seq = cursor->pending;
    return is_new ? cursor_put_new(&journal->store, txn, cursor->publisher, note->seq) : 0;
}

/* Whether a letter may still be added in this commit. */
static bool has_room(struct journal *journal, struct batch *batch, uint64_t cost, bool is_dead)
{
    int64_t now_ms = clock_monotonic_ms(journal->clock);

    if (is_dead && !store_has_room_for_dead(&journal->store, batch->dead_put + cost))
        return false;
    if (!store_has_room_for_letters(&journal->store, batch->event_cost + batch->letters_put + cost,
                                    now_ms))
        return false;
    batch->letters_put += cost;
    if (is_dead)
        batch->dead_put += cost;
    return true;
}

static int bury(struct journal *journal, MDB_txn *txn, struct batch *batch, struct note *note)
{
    if (!has_room(journal, batch, letters_cost(&journal->store, note), true)) {
        note->result = NOTE_FULL;
        return 0;
    }
    return letters_bury(&journal->store, txn, note, journal->next.state.next_dead++,
                        clock_wall_ms(journal->clock));
}

static int park(struct journal *journal, MDB_txn *txn, struct batch *batch, struct note *note)
{
    if (!has_room(journal, batch, letters_cost(&journal->store, note), false)) {
        note->result = NOTE_FULL;
        return 0;
    }
    return letters_park(&journal->store, txn, note, clock_wall_ms(journal->clock));
}

/* A letter that an operator dropped meanwhile stays dropped. */
static int rebury(struct journal *journal, MDB_txn *txn, struct batch *batch, struct note *note)
{
    int rc;

    if (!has_room(journal, batch, letters_cost(&journal->store, note), false)) {
        note->result = NOTE_FULL;
        return 0;
    }
    rc = letters_rebury(&journal->store, txn, note, clock_wall_ms(journal->clock));
    if (rc == MDB_NOTFOUND)
        note->result = NOTE_ABSENT;
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int drop(struct journal *journal, MDB_txn *txn, struct note *note)
{
    int rc = letters_drop(&journal->store, txn, note->letter);

    if (rc == MDB_NOTFOUND)
        note->result = NOTE_ABSENT;
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int apply_note(struct journal *journal, MDB_txn *txn, struct batch *batch, struct note *note)
{
    note->result = NOTE_STORED;
    switch (note->kind) {
    case NOTE_CURSOR:
        return put_cursor(journal, txn, note);
    case NOTE_OPEN_CURSOR:
        return open_cursor(journal, txn, note);
    case NOTE_PARK:
        return park(journal, txn, batch, note);
    case NOTE_UNPARK:
        return letters_unpark(&journal->store, txn, note->publisher, note->topic, note->seq,
                              note->nth);
    case NOTE_BURY:
        return bury(journal, txn, batch, note);
    case NOTE_REBURY:
        return rebury(journal, txn, batch, note);
    case NOTE_DROP:
        return drop(journal, txn, note);
    }
    return 0;
}

static int apply_notes(struct journal *journal, MDB_txn *txn, struct batch *batch)
{
    int rc = 0;

    for (size_t i = 0; i < batch->note_count && rc == 0; i++)
        rc = apply_note(journal, txn, batch, batch->notes[i]);
    return rc;
}

/* ---- events, opaque deliveries, marks ---- */

static int append_chunk(struct journal *journal, MDB_txn *txn, struct event *const *events,
                        size_t count, size_t bytes)
{
    struct progress *next = &journal->next;
    uint64_t first = next->state.next_seq;
    uint64_t last = first + count - 1;
    MDB_val key = number_val(&last);
    MDB_val value = {bytes, NULL};
    int rc = mdb_put(txn, journal->store.db[STORE_EVENTS], &key, &value, MDB_APPEND | MDB_RESERVE);
    char *at = value.mv_data;

    if (rc != 0)
        return rc;
    for (size_t i = 0; i < count; i++) {
        event_seal(events[i], first + i, next->state.age_s);
        memcpy(at, events[i]->record, events[i]->record->size);
        at += events[i]->record->size;
    }
    if (next->head_seq == first) {
        next->head_last = last;
        next->head_age_s = next->state.age_s;
    }
    next->state.next_seq = last + 1;
    return 0;
}

static int append_events(struct journal *journal, MDB_txn *txn, const struct batch *batch)
{
    size_t done = 0;
    int rc = 0;

    while (done < batch->event_count && rc == 0) {
        size_t bytes;
        size_t count = chunk_fill(batch->events + done, batch->event_count - done, &bytes);

        rc = append_chunk(journal, txn, batch->events + done, count, bytes);
        done += count;
    }
    return rc;
}

/* Authentic, but not an event: straight to the dead letters. */
static int bury_opaque(struct journal *journal, MDB_txn *txn, struct event *event)
{
    struct note note = {.kind = NOTE_BURY,
                        .publisher = "webhook",
                        .topic = "",
                        .reason = "not_an_event",
                        .event = event};

    event_seal(event, 0, journal->next.state.age_s);
    return letters_bury(&journal->store, txn, &note, journal->next.state.next_dead++,
                        clock_wall_ms(journal->clock));
}

static int put_marks(struct journal *journal, MDB_txn *txn, const struct batch *batch)
{
    uint64_t number = journal->next.state.next_batch;
    MDB_val key = number_val(&number);
    MDB_val value = {sizeof(struct marks_head) + batch->mark_count * MARK_SIZE, NULL};
    int rc;

    if (batch->mark_count == 0)
        return 0;
    rc = mdb_put(txn, journal->store.db[STORE_MARKS], &key, &value, MDB_APPEND | MDB_RESERVE);
    if (rc != 0)
        return rc;
    for (uint32_t i = 0; i < batch->mark_count; i++)
        marks_put(value.mv_data, i, &batch->marks[i]);
    marks_seal(value.mv_data, batch->marks[0].age_s, (uint32_t)batch->mark_count);
    journal->next.state.next_batch++;
    return 0;
}

static int append_all(struct journal *journal, MDB_txn *txn, const struct batch *batch)
{
    int rc = append_events(journal, txn, batch);

    for (size_t i = 0; i < batch->opaque_count && rc == 0; i++)
        rc = bury_opaque(journal, txn, batch->opaque[i]);
    return rc == 0 ? put_marks(journal, txn, batch) : rc;
}

/* ---- retention ---- */

static bool space_is_needed(const struct journal *journal)
{
    return journal->is_disk_full ||
           journal->store.used / SPACE_PERCENT > journal->store.max_size / 100;
}

/* Whether the oldest chunk may go. */
static bool may_delete(const struct journal *journal, const struct progress *progress,
                       uint32_t now_s)
{
    uint32_t age_s = progress->head_age_s;

    if (progress->head_last > cursors_minimum(journal) ||
        progress->head_last >= progress->state.next_seq)
        return false;
    return space_is_needed(journal) ||
           (now_s >= age_s && now_s - age_s >= atomic_load(&journal->retention_s));
}

bool retention_is_due(struct journal *journal)
{
    return may_delete(journal, &journal->durable, journal_age_s(journal));
}

/* Deletes from the head what is settled for everybody and old, or in the way. */
static int delete_delivered(struct journal *journal, MDB_txn *txn, size_t at_most)
{
    struct progress *next = &journal->next;
    MDB_cursor *rows;
    MDB_val key;
    MDB_val value;
    int rc = mdb_cursor_open(txn, journal->store.db[STORE_EVENTS], &rows);

    if (rc != 0)
        return rc;
    /* after a deletion the cursor stands on what came next, and MDB_NEXT gives just that */
    for (size_t i = 0; (rc = mdb_cursor_get(rows, &key, &value, i ? MDB_NEXT : MDB_FIRST)) == 0;
         i++) {
        progress_set_head(next, &key, &value);
        if (i >= at_most || !may_delete(journal, next, next->state.age_s))
            break;
        rc = mdb_cursor_del(rows, 0);
        if (rc != 0)
            break;
        if (i % 64 == 63)
            store_measure(&journal->store, txn);
    }
    mdb_cursor_close(rows);
    if (rc == MDB_NOTFOUND) {
        progress_set_head(next, NULL, NULL);
        rc = 0;
    }
    return rc;
}

/* Deletes the oldest batches of marks once all their marks are forgotten. */
static int trim_marks(struct journal *journal, MDB_txn *txn)
{
    uint64_t forgotten = dedupe_forgotten(journal->dedupe);
    MDB_cursor *rows;
    MDB_val key;
    MDB_val value;
    int rc;

    if (forgotten == journal->next.marks_trimmed)
        return 0;
    rc = mdb_cursor_open(txn, journal->store.db[STORE_MARKS], &rows);
    if (rc != 0)
        return rc;
    for (int i = 0; i < TRIM_STEP; i++) {
        size_t count;

        rc = mdb_cursor_get(rows, &key, &value, MDB_FIRST);
        if (rc != 0)
            break;
        count = marks_in(value.mv_size);
        if (journal->next.marks_trimmed + count > forgotten)
            break;
        rc = mdb_cursor_del(rows, 0);
        if (rc != 0)
            break;
        journal->next.marks_trimmed += count;
    }
    mdb_cursor_close(rows);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int apply_retention(struct journal *journal, MDB_txn *txn, const struct batch *batch)
{
    size_t at_most = batch->event_count * 2;
    int rc = 0;

    if (at_most < RETENTION_STEP)
        at_most = RETENTION_STEP;
    if (may_delete(journal, &journal->next, journal->next.state.age_s))
        rc = delete_delivered(journal, txn, at_most);
    return rc == 0 ? trim_marks(journal, txn) : rc;
}

/* ---- the transaction ---- */

static int put_state(struct journal *journal, MDB_txn *txn)
{
    char name[] = "state";
    MDB_val key = {strlen(name), name};
    MDB_val value = {sizeof(journal->next.state), &journal->next.state};

    journal->next.state.commits++;
    journal->next.state.evicted = dedupe_evicted(journal->dedupe);
    state_seal(&journal->next.state);
    return mdb_put(txn, journal->store.db[STORE_META], &key, &value, 0);
}

static enum commit_result begin(struct journal *journal, MDB_txn **out_txn, struct error *err)
{
    int rc = mdb_txn_begin(journal->store.env, NULL, 0, out_txn);

    journal->next = journal->durable;
    journal->next.state.age_s = journal_age_s(journal);
    if (rc == 0)
        return COMMIT_DONE;
    store_error(&journal->store, "cannot be written", rc, err);
    return COMMIT_FAILED;
}

static void take_back(struct journal *journal)
{
    size_t kept = 0;

    journal->next = journal->durable;
    for (size_t i = 0; i < journal->cursor_count; i++) {
        if (journal->cursors[i].is_new)
            continue;
        journal->cursors[kept] = journal->cursors[i];
        journal->cursors[kept].pending = journal->cursors[kept].seq;
        kept++;
    }
    journal->cursor_count = kept;
}

static void make_durable(struct journal *journal)
{
    journal->durable = journal->next;
    for (size_t i = 0; i < journal->cursor_count; i++) {
        journal->cursors[i].seq = journal->cursors[i].pending;
        journal->cursors[i].is_new = false;
    }
    store_measure_file(&journal->store);
}

/* Ends the transaction: commits when `rc` is 0. */
static enum commit_result finish(struct journal *journal, MDB_txn *txn, int rc, struct error *err)
{
    if (rc == 0)
        rc = put_state(journal, txn);
    if (rc != 0) {
        mdb_txn_abort(txn);
    } else {
        store_measure(&journal->store, txn);
        rc = mdb_txn_commit(txn);
    }
    if (rc == 0) {
        make_durable(journal);
        return COMMIT_DONE;
    }
    take_back(journal);
    store_error(&journal->store, "cannot be written", rc, err);
    return rc == MDB_MAP_FULL || rc == MDB_TXN_FULL ? COMMIT_FULL : COMMIT_FAILED;
}

enum commit_result commit_batch(struct journal *journal, struct batch *batch, struct error *err)
{
    MDB_txn *txn;
    enum commit_result result = begin(journal, &txn, err);
    int rc;

    if (result != COMMIT_DONE)
        return result;
    rc = apply_notes(journal, txn, batch);
    if (rc == 0)
        rc = apply_retention(journal, txn, batch);
    if (rc == 0)
        rc = append_all(journal, txn, batch);
    return finish(journal, txn, rc, err);
}

/* Deletes the rows from `first` on of a database whose keys are numbers. */
static int delete_from(MDB_txn *txn, MDB_dbi db, uint64_t first)
{
    MDB_cursor *rows;
    MDB_val key = number_val(&first);
    MDB_val value;
    int rc = mdb_cursor_open(txn, db, &rows);

    if (rc != 0)
        return rc;
    while ((rc = mdb_cursor_get(rows, &key, &value, MDB_SET_RANGE)) == 0) {
        rc = mdb_cursor_del(rows, 0);
        if (rc != 0)
            break;
        key = number_val(&first);
    }
    mdb_cursor_close(rows);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

enum commit_result commit_recovery(struct journal *journal, struct error *err)
{
    MDB_txn *txn;
    enum commit_result result = begin(journal, &txn, err);
    int rc;

    if (result != COMMIT_DONE)
        return result;
    rc = delete_from(txn, journal->store.db[STORE_EVENTS], journal->next.state.next_seq);
    if (rc == 0)
        rc = delete_from(txn, journal->store.db[STORE_MARKS], journal->next.state.next_batch);
    return finish(journal, txn, rc, err);
}
