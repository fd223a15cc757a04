#include "bridge/journal/journal.h"

#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/base/thread.h"
#include "bridge/journal/journal_internal.h"
#include "schemas/event.h"
#include <lmdb.h>

/* ---- the intake ---- */

static void accept_delivery(struct intake *self, struct delivery *delivery)
{
    struct journal *journal = container_of(self, struct journal, intake);

    mailbox_add(&journal->deliveries, &delivery->node);
    pace_arrive(&journal->pace);
}

static void identify(struct intake *self, struct event *event)
{
    const struct journal *journal = container_of(self, struct journal, intake);

    identity_set(journal->secret, event);
}

struct intake *journal_intake(struct journal *journal)
{
    return &journal->intake;
}

void journal_note(struct journal *journal, struct note *note)
{
    mailbox_push(&journal->notes, &note->node);
}

/* ---- opening and closing ---- */

static int open_parts(struct journal *journal, const struct journal_options *options,
                      struct error *err)
{
    if (wakeup_init(&journal->wakeup, err) < 0)
        return -1;
    mailbox_init(&journal->deliveries, &journal->wakeup);
    mailbox_init(&journal->notes, &journal->wakeup);
    pace_init(&journal->pace, &journal->wakeup);
    if (!journal->batch || !journal->duplicates)
        return error_set(err, ERROR_FATAL, "out of memory");
    pthread_mutex_init(&journal->duplicates->lock, NULL);
    journal->dedupe =
        dedupe_new(journal->dedupe_max, BATCH_DELIVERIES, journal->dedupe_window_s, err);
    if (!journal->dedupe || store_open(&journal->store, options->path, options->max_size, err) < 0)
        return -1;
    journal->batch_bytes = journal->store.step / 4;
    if (journal->batch_bytes > BATCH_BYTES)
        journal->batch_bytes = BATCH_BYTES;
    if (state_load(journal, err) < 0)
        return -1;
    journal->is_loaded = true;
    writer_show(journal);
    return 0;
}

struct journal *journal_open(const struct journal_options *options, const struct clock *clock,
                             struct error *err)
{
    struct journal *journal = calloc(1, sizeof(*journal));

    if (!journal) {
        error_set(err, ERROR_FATAL, "out of memory");
        return NULL;
    }
    journal->intake = (struct intake){accept_delivery, identify};
    journal->clock = clock;
    atomic_init(&journal->retention_s, (uint32_t)(options->retention_ms / 1000));
    atomic_init(&journal->dedupe_window_s, (uint32_t)(options->dedupe_window_ms / 1000));
    journal->dedupe_max = options->dedupe_max;
    journal->on_damaged = options->on_damaged;
    journal->on_damaged_context = options->on_damaged_context;
    journal->recover_wait_ms = 50;
    journal->wakeup.fd = -1;
    journal->store.dir_fd = journal->store.lock_fd = -1;
    journal->batch = calloc(1, sizeof(*journal->batch));
    journal->duplicates = calloc(1, sizeof(*journal->duplicates));
    if (open_parts(journal, options, err) < 0) {
        journal_close(journal);
        return NULL;
    }
    log_info("journal.opened", log_str("path", options->path),
             log_i64("head", (int64_t)journal->durable.head_seq),
             log_i64("tail", (int64_t)journal->durable.state.next_seq - 1),
             log_i64("bytes", (int64_t)journal->store.used),
             log_i64("marks", (int64_t)dedupe_count(journal->dedupe)));
    return journal;
}

void journal_close(struct journal *journal)
{
    if (!journal)
        return;
    if (journal->has_thread) {
        atomic_store(&journal->is_stopping, true);
        wakeup_signal(&journal->wakeup);
        pthread_join(journal->thread, NULL);
    }
    if (journal->is_loaded && !journal->is_broken) {
        store_close_env(&journal->store);
        store_mark_clean(&journal->store);
    }
    if (journal->store.path)
        store_release(&journal->store);
    dedupe_free(journal->dedupe);
    wakeup_release(&journal->wakeup);
    free(journal->cursors);
    free(journal->batch);
    free(journal->duplicates);
    free(journal);
}

int journal_start(struct journal *journal,
                  void (*on_stored)(void *context, struct event *const *events, size_t count),
                  void *context, struct error *err)
{
    journal->on_stored = on_stored;
    journal->on_stored_context = context;
    journal->durable.state.flags &= ~(uint32_t)STATE_CURSORS_UNKNOWN; /* all have one now */
    if (thread_start(&journal->thread, "journal", writer_run, journal, err) < 0)
        return -1;
    journal->has_thread = true;
    return 0;
}

/* ---- cursors before the start ---- */

/* Makes the cursor of a new publisher durable at the journal's end. */
static int make_cursor(struct journal *journal, const char *publisher, uint64_t seq,
                       struct error *err)
{
    struct cursor *cursor;
    MDB_txn *txn;
    int rc;

    if (!*publisher || strlen(publisher) >= PUBLISHER_SIZE)
        return error_set(err, ERROR_CONFIG, "publisher %s: the name is longer than %d bytes",
                         publisher, PUBLISHER_SIZE - 1);
    rc = mdb_txn_begin(journal->store.env, NULL, 0, &txn);
    if (rc != 0)
        return store_error(&journal->store, "cannot be written", rc, err);
    cursor = cursor_get(journal, publisher);
    if (!cursor) {
        mdb_txn_abort(txn);
        return error_set(err, ERROR_FATAL, "out of memory");
    }
    cursor->seq = cursor->pending = seq;
    rc = cursor_put_new(&journal->store, txn, publisher, seq);
    if (rc == 0)
        rc = mdb_txn_commit(txn);
    else
        mdb_txn_abort(txn);
    return rc == 0 ? 0 : store_error(&journal->store, "cannot be written", rc, err);
}

/* Where a publisher begins that the journal does not know. */
static uint64_t first_cursor(const struct journal *journal, const char *publisher)
{
    const struct journal_state *state = &journal->durable.state;

    if (!cursor_pins_events(publisher))
        return 0; /* with the first dead letter that is kept */
    if (state->flags & STATE_CURSORS_UNKNOWN)
        return journal->durable.head_seq - 1; /* it may be one whose cursor is lost */
    return state->next_seq - 1;
}

int journal_open_cursor(struct journal *journal, const char *publisher, uint64_t *out_seq,
                        struct error *err)
{
    const struct cursor *cursor = cursor_find(journal, publisher);

    if (!cursor) {
        uint64_t seq = first_cursor(journal, publisher);

        if (make_cursor(journal, publisher, seq, err) < 0)
            return -1;
        *out_seq = seq;
        return 0;
    }
    *out_seq = cursor->seq;
    return 0;
}

/* ---- cursors while it runs ---- */

struct opening {
    struct note note;
    sem_t is_done;
};

static void opened(struct note *note)
{
    sem_post(&container_of(note, struct opening, note)->is_done);
}

int journal_add_cursor(struct journal *journal, const char *publisher, uint64_t *out_seq,
                       struct error *err)
{
    struct opening opening = {
        .note = {.kind = NOTE_OPEN_CURSOR, .publisher = publisher, .done = opened}};

    sem_init(&opening.is_done, 0, 0);
    journal_note(journal, &opening.note);
    while (sem_wait(&opening.is_done) != 0)
        ; /* interrupted */
    sem_destroy(&opening.is_done);
    if (opening.note.result != NOTE_STORED)
        return error_set(err, ERROR_TRANSIENT, "the journal cannot store a cursor for %s now",
                         publisher);
    *out_seq = opening.note.seq;
    return 0;
}

void journal_set_ages(struct journal *journal, int64_t retention_ms, int64_t dedupe_window_ms)
{
    atomic_store(&journal->retention_s, (uint32_t)(retention_ms / 1000));
    atomic_store(&journal->dedupe_window_s, (uint32_t)(dedupe_window_ms / 1000));
    wakeup_signal(&journal->wakeup);
}

static int delete_cursor(struct journal *journal, MDB_txn *txn, const char *publisher)
{
    char first[PUBLISHER_SIZE];
    MDB_val key = {strlen(publisher), (void *)(uintptr_t)publisher};
    int rc = mdb_del(txn, journal->store.db[STORE_CURSORS], &key, NULL);

    if (rc != 0)
        return rc;
    cursor_name_first(publisher, first);
    key = (MDB_val){strlen(first), first};
    rc = mdb_del(txn, journal->store.db[STORE_CURSORS], &key, NULL);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int journal_drop_publisher(struct journal *journal, const char *publisher, struct error *err)
{
    MDB_txn *txn;
    int rc;

    if (!cursor_pins_events(publisher) || !cursor_find(journal, publisher))
        return error_set(err, ERROR_INPUT, "the journal knows no publisher %s", publisher);
    rc = mdb_txn_begin(journal->store.env, NULL, 0, &txn);
    if (rc == 0) {
        rc = delete_cursor(journal, txn, publisher);
        if (rc == 0)
            rc = letters_drop_parked(&journal->store, txn, publisher);
        if (rc == 0)
            rc = mdb_txn_commit(txn);
        else
            mdb_txn_abort(txn);
    }
    return rc == 0 ? 0 : store_error(&journal->store, "cannot be written", rc, err);
}

void journal_visit_cursors(struct journal *journal,
                           void (*visit)(void *context, const char *publisher, uint64_t seq),
                           void *context)
{
    for (size_t i = 0; i < journal->cursor_count; i++) {
        if (cursor_pins_events(journal->cursors[i].publisher))
            visit(context, journal->cursors[i].publisher, journal->cursors[i].seq);
    }
}

/* ---- numbers ---- */

void journal_numbers(struct journal *journal, struct journal_numbers *out_numbers)
{
    const char *trouble = atomic_load(&journal->trouble);

    *out_numbers = (struct journal_numbers){
        .tail = atomic_load(&journal->tail),
        .head = atomic_load(&journal->head),
        .bytes = atomic_load(&journal->bytes),
        .max_bytes = journal->store.max_size,
        .dead_count = atomic_load(&journal->dead_count),
        .dead_tail = atomic_load(&journal->dead_tail),
        .dead_bytes = atomic_load(&journal->dead_bytes),
        .dead_max_bytes = journal->store.max_size / STORE_DEAD_SHARE,
        .dedupe_window_s = atomic_load(&journal->window_s),
        .can_accept = trouble == NULL,
        .trouble = trouble,
        .conflicts = atomic_load(&journal->conflicts),
        .respelled = atomic_load(&journal->respelled),
        .trusted = atomic_load(&journal->trusted),
        .damaged = atomic_load(&journal->damaged),
    };
}

int64_t journal_busy_ms(const struct journal *journal)
{
    return pulse_busy_ms(&journal->pulse, journal->clock);
}
