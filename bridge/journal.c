/*
 * The writer of the journal. Its thread takes everything that waits, puts it into one LMDB
 * transaction, commits, and only then answers. What arrives during a commit is the next batch.
 */
#include "bridge/journal.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/base/thread.h"
#include "bridge/dedupe.h"
#include "bridge/journal_internal.h"
#include "bridge/journal_store.h"
#include "schemas/event.h"

enum {
    MAX_BATCH = 4096,
    MAX_BATCH_BYTES = 16 * 1024 * 1024,
    MAX_WAITING_BYTES = 64 * 1024 * 1024, /* accepted by the listener, not yet in a batch */
    DELETE_BEYOND_BATCH = 256,            /* events deleted per commit beside one for each stored */
    MARK_RECORDS_PER_COMMIT = 256,
    IDLE_MS = 1000,
    REOPEN_PAUSE_MS = 1000,
};

static const char full_sentence[] = "the journal is full of undelivered events";
static const char disk_full_sentence[] = "the disk is full";
static const char broken_sentence[] = "the journal cannot be written";
static const char stopping_sentence[] = "the bridge is shutting down";
static const char overload_sentence[] = "too many events wait for the disk";

struct journal {
    struct intake intake;
    struct journal_options options;
    const struct clock *clock;
    struct store store;
    struct dedupe *dedupe;  /* marks that are durable */
    struct dedupe *pending; /* marks of the batch at hand */
    int64_t opened_ms;      /* monotonic */
    uint32_t opened_age_s;  /* the journal's clock at that time */
    pthread_t thread;
    bool is_running;
    atomic_bool is_stopping;
    struct wakeup wakeup;
    struct mailbox deliveries;
    struct mailbox notes;
    void (*on_stored)(void *context, struct event *const *events, size_t count);
    void *on_stored_context;
    /* The writer's: */
    struct mailbox_node *first_waiting; /* deliveries taken from the mailbox, not yet in a batch */
    struct mailbox_node **last_waiting;
    struct delivery *batch[MAX_BATCH];
    struct event *stored[MAX_BATCH];
    struct store_mark marks[MAX_BATCH];
    size_t batch_size;
    size_t stored_count;
    size_t batch_bytes;
    uint64_t dead_in_batch;
    struct store_cursor moved[STORE_MAX_CURSORS]; /* cursors written in this batch */
    size_t moved_count;
    int64_t reopen_at_ms; /* after a failure that also reopening met */
    int64_t next_upkeep_ms;
    /* Any thread's: */
    _Atomic int64_t waiting_bytes;
    _Atomic(const char *) trouble; /* why nothing can be accepted, NULL: it can */
    _Atomic uint64_t tail;
    _Atomic uint64_t head;
    _Atomic uint64_t bytes;
    _Atomic uint64_t dead_count;
    _Atomic uint64_t dead_tail;
    _Atomic uint32_t dedupe_reach_s;
    _Atomic uint64_t conflicts;
    _Atomic uint64_t damaged;
};

/* What a transaction is about to do. */
struct batch {
    MDB_txn *txn;
    bool can_store;
    bool needs_space;
    uint64_t dead_bytes;
    uint64_t used;
    uint64_t deleted_marks;
};

struct store *journal_store(struct journal *journal)
{
    return &journal->store;
}

void journal_count_damage(struct journal *journal)
{
    atomic_fetch_add(&journal->damaged, 1);
}

/* The journal's own clock: seconds that it was open. */
static uint32_t age_s(const struct journal *journal)
{
    int64_t open_ms = clock_monotonic_ms(journal->clock) - journal->opened_ms;

    return journal->opened_age_s + (uint32_t)(open_ms / 1000);
}

static void publish_numbers(struct journal *journal)
{
    atomic_store(&journal->tail, journal->store.tail);
    atomic_store(&journal->head, journal->store.head);
    atomic_store(&journal->dead_count, journal->store.dead_count);
    atomic_store(&journal->dead_tail, journal->store.dead_tail);
    atomic_store(&journal->dedupe_reach_s, dedupe_reach_s(journal->dedupe, age_s(journal)));
}

/* ---- what other threads call ---- */

static void answer(struct delivery *delivery, enum delivery_outcome outcome, const char *reason)
{
    delivery->outcome = outcome;
    delivery->reason = reason;
    delivery->done(delivery);
}

static void accept_delivery(struct intake *intake, struct delivery *delivery)
{
    struct journal *journal = container_of(intake, struct journal, intake);
    const char *trouble = atomic_load_explicit(&journal->trouble, memory_order_relaxed);
    int64_t size = delivery->event->record->size;

    if (atomic_load_explicit(&journal->is_stopping, memory_order_relaxed)) {
        answer(delivery, DELIVERY_UNAVAILABLE, stopping_sentence);
        return;
    }
    if (atomic_fetch_add(&journal->waiting_bytes, size) > MAX_WAITING_BYTES ||
        trouble == broken_sentence) {
        atomic_fetch_sub(&journal->waiting_bytes, size);
        answer(delivery, DELIVERY_UNAVAILABLE, trouble ? trouble : overload_sentence);
        return;
    }
    mailbox_push(&journal->deliveries, &delivery->node);
}

static void identify(struct intake *intake, struct event *event)
{
    const struct journal *journal = container_of(intake, struct journal, intake);

    dedupe_identify(journal->store.secret, event);
}

struct intake *journal_intake(struct journal *journal)
{
    return &journal->intake;
}

void journal_note(struct journal *journal, struct note *note)
{
    mailbox_push(&journal->notes, &note->node);
}

void journal_numbers(struct journal *journal, struct journal_numbers *out_numbers)
{
    const char *trouble = atomic_load(&journal->trouble);

    *out_numbers = (struct journal_numbers){
        .tail = atomic_load(&journal->tail),
        .head = atomic_load(&journal->head),
        .bytes = atomic_load(&journal->bytes),
        .max_bytes = journal->options.max_size,
        .dead_count = atomic_load(&journal->dead_count),
        .dead_tail = atomic_load(&journal->dead_tail),
        .dedupe_window_s = atomic_load(&journal->dedupe_reach_s),
        .can_accept = !trouble,
        .trouble = trouble,
        .conflicts = atomic_load(&journal->conflicts),
        .damaged = atomic_load(&journal->damaged),
    };
}

/* ---- opening ---- */

static void load_mark(void *context, const struct store_mark *mark)
{
    struct journal *journal = context;
    uint64_t content;

    memcpy(&content, mark->content, sizeof(content));
    dedupe_add(journal->dedupe, mark->identity, content, mark->time_s);
}

static int make_tables(struct journal *journal, struct error *err)
{
    uint32_t window_s = (uint32_t)(journal->options.dedupe_window_ms / 1000);

    journal->dedupe = dedupe_new(journal->options.dedupe_max, window_s, err);
    journal->pending = dedupe_new(MAX_BATCH, UINT32_MAX, err);
    if (!journal->dedupe || !journal->pending)
        return -1;
    return store_load_marks(&journal->store, load_mark, journal, err);
}

struct journal *journal_open(const struct journal_options *options, const struct clock *clock,
                             struct error *err)
{
    struct journal *journal = alloc_zeroed(1, sizeof(*journal));

    journal->intake = (struct intake){accept_delivery, identify};
    journal->options = *options;
    journal->clock = clock;
    journal->last_waiting = &journal->first_waiting;
    journal->wakeup.fd = -1;
    if (store_open(&journal->store, options->path, options->max_size, err) < 0 ||
        make_tables(journal, err) < 0 || wakeup_init(&journal->wakeup, err) < 0) {
        error_context(err, "journal %s", options->path);
        journal_close(journal);
        return NULL;
    }
    mailbox_init(&journal->deliveries, &journal->wakeup);
    mailbox_init(&journal->notes, &journal->wakeup);
    journal->opened_ms = clock_monotonic_ms(clock);
    journal->opened_age_s = journal->store.newest_age_s;
    publish_numbers(journal);
    return journal;
}

static struct store_cursor *find_cursor(struct journal *journal, const char *name)
{
    for (size_t i = 0; i < journal->store.cursor_count; i++) {
        if (strcmp(journal->store.cursors[i].name, name) == 0)
            return &journal->store.cursors[i];
    }
    return NULL;
}

static int create_cursor(struct journal *journal, const char *name, uint64_t seq, struct error *err)
{
    struct store *store = &journal->store;
    struct store_cursor *cursor = &store->cursors[store->cursor_count];
    MDB_txn *txn;
    int rc;

    if (store->cursor_count == STORE_MAX_CURSORS || strlen(name) > STORE_MAX_NAME)
        return error_set(err, ERROR_FATAL, "the journal has no room for another publisher");
    rc = mdb_txn_begin(store->env, NULL, 0, &txn);
    if (rc == 0) {
        rc = store_put_cursor(store, txn, name, seq);
        if (rc == 0)
            rc = mdb_txn_commit(txn);
        else
            mdb_txn_abort(txn);
    }
    if (rc != 0)
        return store_error(err, rc, "store the place of a publisher");
    strcpy(cursor->name, name);
    cursor->seq = seq;
    store->cursor_count++;
    return 0;
}

int journal_open_cursor(struct journal *journal, const char *publisher, uint64_t *out_seq,
                        struct error *err)
{
    const struct store_cursor *cursor = find_cursor(journal, publisher);

    if (!cursor) {
        /* Those that count dead letters begin with the first that is kept. */
        if (create_cursor(journal, publisher, publisher[0] == '@' ? 0 : journal->store.tail, err) <
            0)
            return -1;
        cursor = find_cursor(journal, publisher);
    }
    *out_seq = cursor->seq;
    return 0;
}

void journal_visit_cursors(struct journal *journal,
                           void (*visit)(void *context, const char *publisher, uint64_t seq),
                           void *context)
{
    for (size_t i = 0; i < journal->store.cursor_count; i++) {
        if (journal->store.cursors[i].name[0] != '@')
            visit(context, journal->store.cursors[i].name, journal->store.cursors[i].seq);
    }
}

/* ---- a batch: deliveries ---- */

static void take_mailbox(struct journal *journal)
{
    struct mailbox_node *node = mailbox_take(&journal->deliveries);

    if (!node)
        return;
    *journal->last_waiting = node;
    while (node->next)
        node = node->next;
    journal->last_waiting = &node->next;
}

static void choose_batch(struct journal *journal)
{
    journal->batch_size = 0;
    journal->batch_bytes = 0;
    while (journal->first_waiting && journal->batch_size < MAX_BATCH &&
           journal->batch_bytes < MAX_BATCH_BYTES) {
        struct delivery *delivery = container_of(journal->first_waiting, struct delivery, node);

        journal->first_waiting = journal->first_waiting->next;
        if (!journal->first_waiting)
            journal->last_waiting = &journal->first_waiting;
        journal->batch[journal->batch_size++] = delivery;
        journal->batch_bytes += delivery->event->record->size;
    }
    atomic_fetch_sub(&journal->waiting_bytes, (int64_t)journal->batch_bytes);
}

static bool is_duplicate(struct journal *journal, const struct event *event, uint32_t now_s)
{
    enum dedupe_answer known = dedupe_find(journal->dedupe, event->identity, event->content, now_s);
    enum dedupe_answer now = dedupe_find(journal->pending, event->identity, event->content, now_s);

    if (known == DEDUPE_DUPLICATE || now == DEDUPE_DUPLICATE)
        return true;
    if (known == DEDUPE_CONFLICT || now == DEDUPE_CONFLICT)
        atomic_fetch_add(&journal->conflicts, 1);
    return false;
}

static int bury_opaque(struct journal *journal, struct batch *batch, struct delivery *delivery)
{
    struct note note = {
        .publisher = "webhook", .topic = "", .reason = "not_an_event", .event = delivery->event};
    int64_t now_ms = clock_wall_ms(journal->clock);
    int rc;

    event_seal(delivery->event, 0, age_s(journal));
    rc = store_put_dead(&journal->store, batch->txn,
                        journal->store.dead_tail + journal->dead_in_batch + 1, &note, now_ms,
                        now_ms);
    if (rc != 0)
        return rc;
    journal->dead_in_batch++;
    delivery->outcome = DELIVERY_DEAD_LETTERED;
    return 0;
}

static int store_event(struct journal *journal, struct batch *batch, struct delivery *delivery,
                       uint32_t now_s)
{
    struct event *event = delivery->event;
    struct store_mark *mark = &journal->marks[journal->stored_count];
    int rc;

    event_seal(event, journal->store.tail + journal->stored_count + 1, now_s);
    rc = store_put_event(&journal->store, batch->txn, event);
    if (rc != 0)
        return rc;
    memcpy(mark->identity, event->identity, sizeof(mark->identity));
    memcpy(mark->content, &event->content, sizeof(mark->content));
    mark->time_s = now_s;
    dedupe_add(journal->pending, event->identity, event->content, now_s);
    journal->stored[journal->stored_count++] = event;
    delivery->outcome = DELIVERY_ACCEPTED;
    return 0;
}

static void refuse(struct journal *journal, struct delivery *delivery)
{
    const char *trouble = atomic_load(&journal->trouble);

    delivery->outcome = DELIVERY_UNAVAILABLE;
    delivery->reason = trouble ? trouble : broken_sentence;
}

static bool dead_letters_have_room(const struct journal *journal, const struct batch *batch)
{
    return batch->dead_bytes < journal->options.max_size / 4;
}

/* Puts the deliveries into the transaction and decides what is to be answered after the commit. */
static int put_deliveries(struct journal *journal, struct batch *batch)
{
    uint32_t now_s = age_s(journal);
    int rc = 0;

    dedupe_clear(journal->pending);
    journal->stored_count = 0;
    journal->dead_in_batch = 0;
    for (size_t i = 0; i < journal->batch_size && rc == 0; i++) {
        struct delivery *delivery = journal->batch[i];
        bool is_opaque = event_has(delivery->event, EVENT_IS_OPAQUE);

        delivery->reason = NULL;
        if (!is_opaque && is_duplicate(journal, delivery->event, now_s))
            delivery->outcome = DELIVERY_DUPLICATE;
        else if (!batch->can_store)
            refuse(journal, delivery);
        else if (!is_opaque)
            rc = store_event(journal, batch, delivery, now_s);
        else if (dead_letters_have_room(journal, batch))
            rc = bury_opaque(journal, batch, delivery);
        else
            refuse(journal, delivery);
    }
    if (rc == 0 && journal->stored_count > 0)
        rc = store_put_marks(&journal->store, batch->txn, journal->store.mark_tail + 1,
                             journal->marks, journal->stored_count);
    return rc;
}

/* ---- a batch: notes ---- */

static int put_cursor(struct journal *journal, struct batch *batch, struct note *note)
{
    struct store_cursor *moved = &journal->moved[journal->moved_count];

    if (!find_cursor(journal, note->publisher) || journal->moved_count == STORE_MAX_CURSORS) {
        note->result = NOTE_FAILED;
        return 0;
    }
    strcpy(moved->name, note->publisher);
    moved->seq = note->seq;
    journal->moved_count++;
    return store_put_cursor(&journal->store, batch->txn, note->publisher, note->seq);
}

static int bury(struct journal *journal, struct batch *batch, struct note *note)
{
    int64_t now_ms = clock_wall_ms(journal->clock);
    int64_t first_ms = now_ms;
    int rc = 0;

    if (!dead_letters_have_room(journal, batch)) {
        note->result = NOTE_FULL;
        return 0;
    }
    if (note->was_parked)
        rc = store_delete_parked(&journal->store, batch->txn, note, &first_ms);
    if (rc == 0)
        rc = store_put_dead(&journal->store, batch->txn,
                            journal->store.dead_tail + journal->dead_in_batch + 1, note, first_ms,
                            now_ms);
    if (rc == 0)
        journal->dead_in_batch++;
    return rc;
}

static int park(struct journal *journal, struct batch *batch, struct note *note)
{
    uint64_t reserve = journal->store.map_size - journal->options.max_size;

    if (batch->used > journal->options.max_size + reserve / 2) {
        note->result = NOTE_FULL;
        return 0;
    }
    return store_put_parked(&journal->store, batch->txn, note, clock_wall_ms(journal->clock));
}

static int put_note(struct journal *journal, struct batch *batch, struct note *note)
{
    int64_t first_ms;

    note->result = NOTE_STORED;
    switch (note->kind) {
    case NOTE_CURSOR:
        return put_cursor(journal, batch, note);
    case NOTE_PARK:
        return park(journal, batch, note);
    case NOTE_UNPARK:
        return store_delete_parked(&journal->store, batch->txn, note, &first_ms);
    case NOTE_BURY:
        return bury(journal, batch, note);
    }
    return 0;
}

static int put_notes(struct journal *journal, struct batch *batch, struct mailbox_node *notes)
{
    int rc = 0;

    journal->moved_count = 0;
    for (; notes && rc == 0; notes = notes->next)
        rc = put_note(journal, batch, container_of(notes, struct note, node));
    return rc;
}

/* ---- a batch: upkeep ---- */

/* Everything up to here is settled for every publisher. */
static uint64_t settled_by_all(const struct journal *journal)
{
    uint64_t settled = UINT64_MAX;
    bool any = false;

    for (size_t i = 0; i < journal->store.cursor_count; i++) {
        const struct store_cursor *cursor = &journal->store.cursors[i];

        if (cursor->name[0] == '@')
            continue;
        any = true;
        if (cursor->seq < settled)
            settled = cursor->seq;
    }
    return any ? settled : 0;
}

static int delete_old(struct journal *journal, struct batch *batch, size_t *out_deleted)
{
    uint32_t now_s = age_s(journal);
    uint32_t retention_s = (uint32_t)(journal->options.retention_ms / 1000);
    size_t limit = 2 * journal->stored_count + DELETE_BEYOND_BATCH;
    int rc = store_delete_events(&journal->store, batch->txn, settled_by_all(journal),
                                 batch->needs_space, now_s, retention_s, limit, out_deleted);

    if (rc == 0)
        rc = store_delete_marks(&journal->store, batch->txn, now_s,
                                (uint32_t)(journal->options.dedupe_window_ms / 1000),
                                journal->store.mark_count + journal->stored_count,
                                journal->options.dedupe_max, MARK_RECORDS_PER_COMMIT,
                                &batch->deleted_marks);
    return rc;
}

static void set_trouble(struct journal *journal, const char *trouble)
{
    const char *before = atomic_exchange(&journal->trouble, trouble);

    if (before == trouble)
        return;
    if (trouble)
        log_error("journal.refuses", log_str("path", journal->options.path),
                  log_str("error", trouble),
                  log_str("action", "webhooks are answered 503; Close sends them again"));
    else
        log_info("journal.accepts", log_str("path", journal->options.path));
}

/* Looks whether there is room before anything is written: a full LMDB does not empty by itself. */
static void look_at_space(struct journal *journal, struct batch *batch)
{
    struct store *store = &journal->store;
    uint64_t bytes = 2 * journal->batch_bytes + journal->batch_size * store->page_size;
    uint64_t spare = 64 * store->page_size;
    uint64_t high_water;
    uint64_t free_bytes;
    bool has_disk;

    store_space(store, batch->txn, &batch->used, &high_water);
    batch->dead_bytes = store_db_bytes(store, batch->txn, DB_DEAD);
    batch->needs_space = batch->used > journal->options.max_size / 10 * 9;
    atomic_store(&journal->bytes, batch->used);
    free_bytes = high_water > batch->used ? high_water - batch->used : 0;
    has_disk = store_extend(store, high_water, bytes + spare) || free_bytes > 4 * (bytes + spare);
    batch->can_store = has_disk && batch->used + bytes <= journal->options.max_size;
    set_trouble(journal, !has_disk ? disk_full_sentence : !batch->can_store ? full_sentence : NULL);
}

/* ---- a batch: the commit and what follows from it ---- */

static void apply_batch(struct journal *journal, const struct batch *batch, size_t deleted)
{
    struct store *store = &journal->store;

    for (size_t i = 0; i < journal->stored_count; i++) {
        uint64_t content;

        memcpy(&content, journal->marks[i].content, sizeof(content));
        dedupe_add(journal->dedupe, journal->marks[i].identity, content, journal->marks[i].time_s);
    }
    if (journal->stored_count > 0)
        store->mark_tail++;
    store->mark_count += journal->stored_count;
    store->mark_count -=
        batch->deleted_marks < store->mark_count ? batch->deleted_marks : store->mark_count;
    store->tail += journal->stored_count;
    store->head += deleted;
    store->dead_tail += journal->dead_in_batch;
    store->dead_count += journal->dead_in_batch;
    for (size_t i = 0; i < journal->moved_count; i++)
        find_cursor(journal, journal->moved[i].name)->seq = journal->moved[i].seq;
    publish_numbers(journal);
}

static void answer_batch(struct journal *journal)
{
    for (size_t i = 0; i < journal->batch_size; i++)
        journal->batch[i]->done(journal->batch[i]);
}

static void finish_notes(struct mailbox_node *notes)
{
    while (notes) {
        struct note *note = container_of(notes, struct note, node);

        notes = notes->next;
        note->done(note);
    }
}

/* After a failed commit nothing of the batch counts, and the environment is not trusted any more.
 */
static void fail_batch(struct journal *journal, struct mailbox_node *notes, int code)
{
    struct error err;

    store_error(&err, code, "commit");
    log_error("journal.commit_failed", log_str("path", journal->options.path),
              log_str("error", err.message), log_i64("events", (int64_t)journal->batch_size));
    for (size_t i = 0; i < journal->batch_size; i++) {
        journal->batch[i]->outcome = DELIVERY_UNAVAILABLE;
        journal->batch[i]->reason = broken_sentence;
    }
    for (struct mailbox_node *node = notes; node; node = node->next)
        container_of(node, struct note, node)->result =
            code == MDB_MAP_FULL ? NOTE_FULL : NOTE_FAILED;
    if (store_reopen(&journal->store, &err) < 0) {
        set_trouble(journal, broken_sentence);
        log_error("journal.reopen_failed", log_str("path", journal->options.path),
                  log_str("error", err.message), log_str("action", "tried again every second"));
        journal->reopen_at_ms = clock_monotonic_ms(journal->clock) + REOPEN_PAUSE_MS;
    } else {
        publish_numbers(journal);
    }
}

/* Gives the new events to the dispatcher before their senders are answered: nobody waits for that,
 * and it is quick. */
static void hand_on(struct journal *journal)
{
    if (journal->stored_count > 0)
        journal->on_stored(journal->on_stored_context, journal->stored, journal->stored_count);
}

static int fill_batch(struct journal *journal, struct batch *batch, struct mailbox_node *notes,
                      size_t *out_deleted)
{
    int rc;

    look_at_space(journal, batch);
    rc = put_deliveries(journal, batch);
    if (rc == 0)
        rc = put_notes(journal, batch, notes);
    return rc == 0 ? delete_old(journal, batch, out_deleted) : rc;
}

static bool has_changed(const struct journal *journal, const struct batch *batch,
                        const struct mailbox_node *notes, size_t deleted)
{
    return journal->stored_count > 0 || journal->dead_in_batch > 0 || notes || deleted > 0 ||
           batch->deleted_marks > 0;
}

static void write_batch(struct journal *journal, struct mailbox_node *notes)
{
    struct batch batch = {0};
    size_t deleted = 0;
    int rc = mdb_txn_begin(journal->store.env, NULL, 0, &batch.txn);

    if (rc == 0) {
        rc = fill_batch(journal, &batch, notes, &deleted);
        if (rc == 0 && has_changed(journal, &batch, notes, deleted))
            rc = mdb_txn_commit(batch.txn);
        else
            mdb_txn_abort(batch.txn);
    }
    if (rc == 0) {
        apply_batch(journal, &batch, deleted);
        hand_on(journal);
    } else {
        fail_batch(journal, notes, rc);
    }
    answer_batch(journal);
    finish_notes(notes);
}

/* ---- the thread ---- */

static bool is_open(struct journal *journal)
{
    struct error err;

    if (journal->store.env)
        return true;
    if (clock_monotonic_ms(journal->clock) < journal->reopen_at_ms)
        return false;
    journal->reopen_at_ms = clock_monotonic_ms(journal->clock) + REOPEN_PAUSE_MS;
    if (store_reopen(&journal->store, &err) < 0)
        return false;
    publish_numbers(journal);
    set_trouble(journal, NULL);
    return true;
}

static void refuse_all(struct journal *journal, struct mailbox_node *notes)
{
    for (size_t i = 0; i < journal->batch_size; i++)
        refuse(journal, journal->batch[i]);
    for (struct mailbox_node *node = notes; node; node = node->next)
        container_of(node, struct note, node)->result = NOTE_FAILED;
    answer_batch(journal);
    finish_notes(notes);
}

/* True when there was something to do. */
static bool turn(struct journal *journal)
{
    struct mailbox_node *notes = mailbox_take(&journal->notes);
    int64_t now_ms = clock_monotonic_ms(journal->clock);

    take_mailbox(journal);
    choose_batch(journal);
    if (journal->batch_size == 0 && !notes && now_ms < journal->next_upkeep_ms)
        return false;
    journal->next_upkeep_ms = now_ms + IDLE_MS;
    if (is_open(journal))
        write_batch(journal, notes);
    else
        refuse_all(journal, notes);
    return journal->batch_size > 0 || notes;
}

static void *run(void *argument)
{
    struct journal *journal = argument;

    for (;;) {
        bool was_stopping = atomic_load(&journal->is_stopping);

        if (turn(journal))
            continue;
        if (was_stopping)
            return NULL;
        wakeup_wait(&journal->wakeup, IDLE_MS);
    }
}

int journal_start(struct journal *journal,
                  void (*on_stored)(void *context, struct event *const *events, size_t count),
                  void *context, struct error *err)
{
    journal->on_stored = on_stored;
    journal->on_stored_context = context;
    if (thread_start(&journal->thread, "journal", run, journal, err) < 0)
        return -1;
    journal->is_running = true;
    return 0;
}

void journal_close(struct journal *journal)
{
    if (!journal)
        return;
    if (journal->is_running) {
        atomic_store(&journal->is_stopping, true);
        wakeup_signal(&journal->wakeup);
        pthread_join(journal->thread, NULL);
    }
    dedupe_free(journal->dedupe);
    dedupe_free(journal->pending);
    store_close(&journal->store);
    wakeup_release(&journal->wakeup);
    free(journal);
}
