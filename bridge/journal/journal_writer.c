#include <string.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/journal/journal_internal.h"
#include "bridge/journal/journal_salvage.h"
#include "schemas/event.h"

/*
 * The writer: takes what waits, commits it, answers. What arrives during a commit and the pause
 * behind it is the next batch.
 *
 * A commit that fails breaks the environment: nothing that hung on it is answered 2xx, and before
 * anything else is stored the environment is closed, opened on new descriptors, and a commit that
 * takes out what the failed one may have left has to succeed.
 */

enum {
    TICK_MS = 1000,
    SQUEEZE_MS = 1000,
    REFUSED_MS = 10000,
    RECOVER_FIRST_MS = 50,
    RECOVER_MAX_MS = 5000
};

static const char full_of_events[] = "the journal is full of undelivered events";
static const char full_of_dead[] = "the store for dead letters is full";
static const char disk_is_full[] = "the disk of the journal is full";
static const char is_failing[] = "the journal cannot write to its disk";
static const char is_damaged[] = "the file of the journal is damaged";

static const char make_room[] = "webhooks are answered 503 until there is room: free space on the "
                                "disk of this path";
static const char let_deliver[] = "webhooks are answered 503 until events are delivered: see the "
                                  "publishers in /readyz; journal.max_size is the limit";

/* ---- numbers ---- */

/* Logs a change of what keeps events out, once. */
static void show_trouble(struct journal *journal, const char *trouble, const char *error)
{
    const char *before = atomic_load(&journal->trouble);

    if (before == trouble)
        return;
    atomic_store(&journal->trouble, trouble);
    if (trouble && error)
        log_error("journal.trouble", log_str("path", journal->store.path),
                  log_str("trouble", trouble), log_str("error", error),
                  log_str("action", "webhooks are answered 503 until it is over"));
    else if (trouble)
        log_error("journal.trouble", log_str("path", journal->store.path),
                  log_str("trouble", trouble), log_i64("bytes", (int64_t)journal->store.used),
                  log_i64("max_bytes", (int64_t)journal->store.max_size),
                  log_str("action", trouble == disk_is_full ? make_room : let_deliver));
    else
        log_info("journal.recovered", log_str("path", journal->store.path), log_str("was", before));
}

static const char *room_trouble(enum store_room room)
{
    return room == STORE_HAS_ROOM ? NULL : room == STORE_IS_FULL ? full_of_events : disk_is_full;
}

void writer_show(struct journal *journal)
{
    const struct journal_state *state = &journal->durable.state;

    atomic_store(&journal->tail, state->next_seq - 1);
    atomic_store(&journal->head, journal->durable.head_seq);
    atomic_store(&journal->bytes, journal->store.used);
    atomic_store(&journal->dead_count, journal->store.dead_count);
    atomic_store(&journal->dead_tail, state->next_dead - 1);
    atomic_store(&journal->dead_bytes, journal->store.dead_used);
    atomic_store(&journal->window_s, dedupe_window_s(journal->dedupe, journal_age_s(journal)));
}

/* Whoever is in trouble needs some more room to get out of it, so that the edge is not crossed to
 * and fro. */
static enum store_room room_for(struct journal *journal, uint64_t need)
{
    int64_t now_ms = clock_monotonic_ms(journal->clock);
    uint64_t spare = atomic_load(&journal->trouble) ? journal->store.step / 4 : 0;
    enum store_room room;

    if (now_ms < journal->squeezed_until_ms)
        return journal->is_disk_full ? STORE_DISK_IS_FULL : STORE_IS_FULL;
    room = store_room_for_events(&journal->store, need, spare, now_ms);
    journal->is_disk_full = room == STORE_DISK_IS_FULL;
    return room;
}

/* ---- trouble and recovery ---- */

static void close_broken(struct journal *journal)
{
    store_close_env(&journal->store);
    journal->is_broken = true;
    journal->next_recover_ms = clock_monotonic_ms(journal->clock) + journal->recover_wait_ms;
    journal->recover_wait_ms *= 2;
    if (journal->recover_wait_ms > RECOVER_MAX_MS)
        journal->recover_wait_ms = RECOVER_MAX_MS;
}

static int reopen(struct journal *journal, struct error *err)
{
    if (store_open_env(&journal->store, err) < 0 || state_reload(journal, err) < 0)
        return -1;
    return commit_recovery(journal, err) == COMMIT_DONE ? 0 : -1;
}

/* A file that reads well and is wrong will not become right by waiting. */
static void look_for_damage(struct journal *journal)
{
    if (!store_is_damaged(&journal->store))
        return;
    journal->is_damaged = true;
    if (journal->on_damaged)
        journal->on_damaged(journal->on_damaged_context);
}

static bool is_usable(struct journal *journal)
{
    struct error err = {0};

    if (!journal->is_broken)
        return true;
    if (clock_monotonic_ms(journal->clock) < journal->next_recover_ms)
        return false;
    if (journal->is_damaged)
        return false;
    if (reopen(journal, &err) < 0) {
        close_broken(journal);
        look_for_damage(journal);
        show_trouble(journal, journal->is_damaged ? is_damaged : is_failing, err.message);
        return false;
    }
    journal->is_broken = false;
    journal->recover_wait_ms = RECOVER_FIRST_MS;
    writer_show(journal);
    return true;
}

/* After an abort, what was measured inside the transaction is not true. */
static void measure_again(struct journal *journal)
{
    struct MDB_txn *txn = store_begin_read(&journal->store, NULL);

    if (!txn)
        return;
    store_measure(&journal->store, txn);
    store_end_read(&journal->store, txn);
}

/* ---- taking what waits ---- */

/* Returns how many there are. */
static size_t append_list(struct waiting *waiting, struct mailbox_node *list)
{
    size_t count = 1;

    if (!list)
        return 0;
    if (waiting->last)
        waiting->last->next = list;
    else
        waiting->first = list;
    for (; list->next; count++)
        list = list->next;
    waiting->last = list;
    return count;
}

static struct mailbox_node *take_first(struct waiting *waiting)
{
    struct mailbox_node *node = waiting->first;

    waiting->first = node->next;
    if (!waiting->first)
        waiting->last = NULL;
    return node;
}

static void gather(struct journal *journal)
{
    pace_take(&journal->pace,
              append_list(&journal->waiting_deliveries, mailbox_take(&journal->deliveries)));
    append_list(&journal->waiting_notes, mailbox_take(&journal->notes));
}

static void take_deliveries(struct journal *journal, struct batch *batch)
{
    size_t bytes = 0;

    while (journal->waiting_deliveries.first && batch->delivery_count < BATCH_DELIVERIES) {
        struct delivery *delivery =
            container_of(journal->waiting_deliveries.first, struct delivery, node);
        size_t size = delivery->event->record->size;

        if (batch->delivery_count && bytes + size > journal->batch_bytes)
            return;
        take_first(&journal->waiting_deliveries);
        bytes += size;
        batch->deliveries[batch->delivery_count++] = delivery;
    }
}

static bool stores_event(const struct note *note)
{
    return note->kind == NOTE_PARK || note->kind == NOTE_BURY || note->kind == NOTE_REBURY;
}

static void take_notes(struct journal *journal, struct batch *batch)
{
    size_t bytes = 0;

    while (journal->waiting_notes.first && batch->note_count < BATCH_NOTES) {
        struct note *note = container_of(journal->waiting_notes.first, struct note, node);
        size_t size = stores_event(note) ? note->event->record->size : 0;

        if (batch->note_count && bytes + size > journal->batch_bytes)
            return;
        take_first(&journal->waiting_notes);
        bytes += size;
        batch->notes[batch->note_count++] = note;
    }
}

static void take_batch(struct journal *journal)
{
    struct batch *batch = journal->batch;

    batch->delivery_count = batch->event_count = batch->opaque_count = 0;
    batch->mark_count = batch->note_count = batch->conflicts = 0;
    batch->no_room = NULL;
    batch->event_cost = batch->letter_cost = batch->letters_put = batch->dead_put = 0;
    take_deliveries(journal, batch);
    take_notes(journal, batch);
}

/* ---- deciding about deliveries ---- */

static void refuse(struct delivery *delivery, const char *reason)
{
    delivery->outcome = DELIVERY_UNAVAILABLE;
    delivery->reason = reason;
}

/* Takes one that was never seen into the commit, if there is room; the reason when not. */
static const char *admit(struct journal *journal, struct batch *batch, struct delivery *delivery)
{
    bool is_opaque = event_has(delivery->event, EVENT_IS_OPAQUE);
    uint64_t cost = store_cost(&journal->store, delivery->event->record->size);
    enum store_room room = room_for(journal, batch->event_cost + cost);

    if (room != STORE_HAS_ROOM) {
        batch->refused_cost = cost;
        return batch->no_room = room_trouble(room);
    }
    if (is_opaque && !store_has_room_for_dead(&journal->store, batch->dead_put + cost))
        return full_of_dead;
    batch->event_cost += cost;
    if (is_opaque) {
        batch->dead_put += cost;
        batch->opaque[batch->opaque_count++] = delivery->event;
    } else {
        batch->events[batch->event_count++] = delivery->event;
    }
    delivery->outcome = is_opaque ? DELIVERY_DEAD_LETTERED : DELIVERY_ACCEPTED;
    return NULL;
}

static void decide_new(struct journal *journal, struct batch *batch, size_t i,
                       struct dedupe_mark *mark, const char *trouble)
{
    struct delivery *delivery = batch->deliveries[i];
    const struct delivery *after = delivery->after;

    if (!trouble && after && after->outcome == DELIVERY_UNAVAILABLE)
        trouble = after->reason;
    if (!trouble)
        trouble = admit(journal, batch, delivery);
    if (trouble) {
        refuse(delivery, trouble);
        return;
    }
    batch->depends[i] = true;
    if (delivery->outcome == DELIVERY_ACCEPTED)
        mark->place = (uint32_t)(journal->durable.state.next_seq + batch->event_count - 1);
    batch->marks[batch->mark_count++] = *mark;
    dedupe_add(journal->dedupe, mark);
}

static void decide(struct journal *journal, struct batch *batch, size_t i, uint32_t age_s,
                   const char *trouble)
{
    struct delivery *delivery = batch->deliveries[i];
    struct event *event = delivery->event;
    struct dedupe_mark mark = {.age_s = age_s};
    enum dedupe_verdict verdict;

    if (!event->has_identity)
        journal->intake.identify(&journal->intake, event);
    memcpy(mark.identity, event->identity, sizeof(mark.identity));
    mark.content = event->content;
    verdict = dedupe_find(journal->dedupe, &mark);
    if (verdict == DEDUPE_CONFLICT)
        verdict = conflict_look_closer(journal, batch, event, &mark);
    batch->depends[i] = verdict == DEDUPE_PENDING;
    if (verdict == DEDUPE_SEEN || verdict == DEDUPE_PENDING) {
        delivery->outcome = DELIVERY_DUPLICATE;
        if (!event_has(event, EVENT_FROM_LOG)) /* which is read again and again */
            duplicates_add(journal->duplicates, mark.identity);
        return;
    }
    decide_new(journal, batch, i, &mark, trouble);
    if (verdict == DEDUPE_CONFLICT && batch->depends[i])
        batch->conflicts++;
}

static void decide_all(struct journal *journal, struct batch *batch, const char *trouble)
{
    uint32_t age_s = journal_age_s(journal);

    dedupe_expire(journal->dedupe, age_s);
    for (size_t i = 0; i < batch->delivery_count; i++)
        decide(journal, batch, i, age_s, trouble);
}

/* ---- answering ---- */

static void answer(struct batch *batch)
{
    wakeup_hold();
    for (size_t i = 0; i < batch->delivery_count; i++)
        batch->deliveries[i]->done(batch->deliveries[i]);
    for (size_t i = 0; i < batch->note_count; i++)
        batch->notes[i]->done(batch->notes[i]);
    wakeup_let_go();
}

/* What hung on the commit did not happen. */
static void disappoint(struct batch *batch, const char *reason, enum note_result result)
{
    for (size_t i = 0; i < batch->delivery_count; i++) {
        if (batch->depends[i])
            refuse(batch->deliveries[i], reason);
    }
    for (size_t i = 0; i < batch->note_count; i++)
        batch->notes[i]->result = result;
}

static void finish_done(struct journal *journal, struct batch *batch)
{
    dedupe_confirm(journal->dedupe);
    atomic_fetch_add(&journal->conflicts, batch->conflicts);
    writer_show(journal);
    if (batch->event_count)
        journal->on_stored(journal->on_stored_context, batch->events, batch->event_count);
}

static void finish_full(struct journal *journal, struct batch *batch)
{
    dedupe_take_back(journal->dedupe);
    journal->squeezed_until_ms = clock_monotonic_ms(journal->clock) + SQUEEZE_MS;
    measure_again(journal);
    disappoint(batch, full_of_events, NOTE_FULL);
}

static void finish_failed(struct journal *journal, struct batch *batch, const struct error *err)
{
    dedupe_take_back(journal->dedupe);
    show_trouble(journal, is_failing, err->message);
    close_broken(journal);
    journal->next_recover_ms = INT64_MIN; /* the first try is at once */
    if (journal->is_disk_full)
        journal->squeezed_until_ms = clock_monotonic_ms(journal->clock) + SQUEEZE_MS;
    disappoint(batch, is_failing, NOTE_FAILED);
}

static void commit(struct journal *journal, struct batch *batch)
{
    struct error err = {0};

    switch (commit_batch(journal, batch, &err)) {
    case COMMIT_DONE:
        finish_done(journal, batch);
        break;
    case COMMIT_FULL:
        finish_full(journal, batch);
        break;
    case COMMIT_FAILED:
        finish_failed(journal, batch, &err);
        break;
    }
}

/*
 * What keeps the next event out, after the commit. A large one that was refused may leave room for
 * small ones: the trouble is over when it would fit as well, or when none was refused for a while.
 */
static void update_trouble(struct journal *journal, const char *no_room)
{
    int64_t now_ms = clock_monotonic_ms(journal->clock);
    const char *trouble = no_room;

    if (journal->is_broken)
        return;
    if (trouble) {
        journal->refused_cost = journal->batch->refused_cost;
        journal->refused_until_ms = now_ms + REFUSED_MS;
    } else {
        if (now_ms >= journal->refused_until_ms)
            journal->refused_cost = store_cost(&journal->store, 0);
        trouble = room_trouble(room_for(journal, journal->refused_cost));
    }
    show_trouble(journal, trouble, NULL);
}

static void run_batch(struct journal *journal)
{
    struct batch *batch = journal->batch;
    bool usable = is_usable(journal);

    take_batch(journal);
    decide_all(journal, batch, usable ? NULL : is_failing);
    if (!usable)
        disappoint(batch, is_failing, NOTE_FAILED);
    else if (batch->mark_count || batch->note_count || retention_is_due(journal))
        commit(journal, batch);
    update_trouble(journal, batch->no_room);
    pace_answer(&journal->pace, batch->delivery_count);
    answer(batch);
}

/* ---- the loop ---- */

static bool has_work(struct journal *journal)
{
    if (journal->waiting_deliveries.first || journal->waiting_notes.first)
        return true;
    if (journal->is_broken)
        return clock_monotonic_ms(journal->clock) >= journal->next_recover_ms;
    return retention_is_due(journal);
}

/* How long nothing needs to be done unless something arrives. */
static int idle_ms(struct journal *journal)
{
    if (journal->is_broken)
        return RECOVER_FIRST_MS;
    return atomic_load(&journal->trouble) || journal->durable.head_seq <= cursors_minimum(journal)
               ? TICK_MS
               : -1;
}

/* Keeps the journal's clock, so that the time it was open counts after a restart. */
static void store_clock(struct journal *journal)
{
    struct error err = {0};

    take_batch(journal);
    if (!journal->is_broken && journal_age_s(journal) > journal->durable.state.age_s &&
        commit_batch(journal, journal->batch, &err) == COMMIT_FAILED)
        log_warn("journal.clock_not_stored", log_str("error", err.message));
}

void *writer_run(void *argument)
{
    struct journal *journal = argument;

    for (;;) {
        bool is_stopping;

        if (!journal->waiting_deliveries.first)
            pace_pause(&journal->pace, journal->clock);
        is_stopping =
            atomic_load(&journal->is_stopping); /* after a wait, which may be ended by it */
        dedupe_set_window(journal->dedupe, atomic_load(&journal->dedupe_window_s),
                          journal_age_s(journal));
        gather(journal);
        if (journal->waiting_deliveries.first || journal->waiting_notes.first ||
            (!is_stopping && has_work(journal))) {
            pulse_begin(&journal->pulse, journal->clock);
            run_batch(journal);
            pulse_end(&journal->pulse);
            continue;
        }
        if (is_stopping)
            break;
        update_trouble(journal, NULL);
        atomic_store(&journal->window_s, dedupe_window_s(journal->dedupe, journal_age_s(journal)));
        pace_sleep(&journal->pace, idle_ms(journal));
    }
    store_clock(journal);
    return NULL;
}
