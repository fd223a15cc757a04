#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <lmdb.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/journal/journal_chunks.h"
#include "bridge/journal/journal_internal.h"
#include "schemas/event.h"

_Static_assert(sizeof(size_t) == sizeof(uint64_t), "MDB_INTEGERKEY takes size_t keys");

uint32_t journal_age_s(struct journal *journal)
{
    int64_t elapsed_us = clock_monotonic_us(journal->clock) - journal->age_base_us;

    return journal->age_base_s + (elapsed_us > 0 ? (uint32_t)(elapsed_us / 1000000) : 0);
}

struct cursor *cursor_find(struct journal *journal, const char *publisher)
{
    for (size_t i = 0; i < journal->cursor_count; i++) {
        if (strcmp(journal->cursors[i].publisher, publisher) == 0)
            return &journal->cursors[i];
    }
    return NULL;
}

struct cursor *cursor_get(struct journal *journal, const char *publisher)
{
    struct cursor *cursors = cursor_find(journal, publisher);

    if (cursors)
        return cursors;
    cursors = realloc(journal->cursors, (journal->cursor_count + 1) * sizeof(*cursors));
    if (!cursors)
        return NULL;
    journal->cursors = cursors;
    cursors += journal->cursor_count++;
    memset(cursors, 0, sizeof(*cursors));
    strncpy(cursors->publisher, publisher, sizeof(cursors->publisher) - 1);
    return cursors;
}

uint64_t cursors_minimum(const struct journal *journal)
{
    uint64_t minimum = UINT64_MAX;

    for (size_t i = 0; i < journal->cursor_count; i++) {
        if (cursor_pins_events(journal->cursors[i].publisher) &&
            journal->cursors[i].pending < minimum)
            minimum = journal->cursors[i].pending;
    }
    return minimum;
}

size_t marks_in(size_t size)
{
    return size < sizeof(struct marks_head) ? 0 : (size - sizeof(struct marks_head)) / MARK_SIZE;
}

int cursor_put(struct store *store, struct MDB_txn *txn, const char *publisher, uint64_t seq)
{
    struct cursor_record record = {.seq = seq};
    MDB_val key = {strlen(publisher), (void *)(uintptr_t)publisher};
    MDB_val value = {sizeof(record), &record};

    strncpy(record.publisher, publisher, sizeof(record.publisher) - 1);
    cursor_seal(&record);
    return mdb_put(txn, store->db[STORE_CURSORS], &key, &value, 0);
}

int cursor_put_new(struct store *store, struct MDB_txn *txn, const char *publisher, uint64_t seq)
{
    char first[PUBLISHER_SIZE];
    int rc = cursor_put(store, txn, publisher, seq);

    if (rc != 0 || seq == 0 || !cursor_pins_events(publisher))
        return rc;
    cursor_name_first(publisher, first);
    return cursor_put(store, txn, first, seq);
}

static int damaged(const struct journal *journal, const char *what, struct error *err)
{
    return error_set(err, ERROR_CONFIG, "journal %s: %s", journal->store.path, what);
}

static int read_meta(const struct journal *journal, MDB_txn *txn, char *name, MDB_val *out_value)
{
    MDB_val key = {strlen(name), name};

    return mdb_get(txn, journal->store.db[STORE_META], &key, out_value);
}

/* In the first format that number stood where the magic is now. */
static bool is_of_another_version(const MDB_val *value)
{
    struct journal_state state = {0};

    memcpy(&state, value->mv_data, value->mv_size < sizeof(state) ? value->mv_size : sizeof(state));
    return state.magic == 1 || (state.magic == STATE_MAGIC && state.format != JOURNAL_FORMAT);
}

static int load_state_record(struct journal *journal, MDB_txn *txn, struct journal_state *out_state,
                             struct error *err)
{
    char name[] = "state";
    struct journal_state state = {
        .format = JOURNAL_FORMAT, .next_seq = 1, .next_dead = 1, .next_batch = 1};
    MDB_val value;
    int rc = read_meta(journal, txn, name, &value);

    if (rc != 0 && rc != MDB_NOTFOUND)
        return store_error(&journal->store, "its state cannot be read", rc, err);
    if (rc == 0 && is_of_another_version(&value))
        return damaged(journal, "was written by another version of this program", err);
    if (rc == 0 && !state_check(value.mv_data, value.mv_size, &state))
        return damaged(journal, "its state is damaged", err);
    *out_state = state;
    return 0;
}

/* The first or last number of a database whose keys are numbers; `none` when it is empty. */
static uint64_t edge_of(const struct journal *journal, MDB_txn *txn, enum store_db db,
                        MDB_cursor_op edge, uint64_t none)
{
    MDB_cursor *cursor;
    MDB_val key;
    MDB_val value;
    uint64_t number = none;

    if (mdb_cursor_open(txn, journal->store.db[db], &cursor) != 0)
        return none;
    if (mdb_cursor_get(cursor, &key, &value, edge) == 0 && key.mv_size == sizeof(number))
        memcpy(&number, key.mv_data, sizeof(number));
    mdb_cursor_close(cursor);
    return number;
}

void progress_set_head(struct progress *progress, const MDB_val *key, const MDB_val *value)
{
    struct event_record head = {.journal_age = 0};

    progress->head_seq = progress->head_last = progress->state.next_seq;
    progress->head_age_s = 0;
    if (!key || key->mv_size != sizeof(progress->head_last))
        return;
    memcpy(&progress->head_last, key->mv_data, sizeof(progress->head_last));
    progress->head_seq =
        chunk_first((struct text){value->mv_data, value->mv_size}, progress->head_last);
    if (event_peek((struct text){value->mv_data, value->mv_size}, &head))
        progress->head_age_s = head.journal_age; /* all of it came in one commit */
}

static void load_head(const struct journal *journal, MDB_txn *txn, struct progress *progress)
{
    MDB_cursor *rows;
    MDB_val key;
    MDB_val value;

    progress_set_head(progress, NULL, NULL);
    if (mdb_cursor_open(txn, journal->store.db[STORE_EVENTS], &rows) != 0)
        return;
    if (mdb_cursor_get(rows, &key, &value, MDB_FIRST) == 0)
        progress_set_head(progress, &key, &value);
    mdb_cursor_close(rows);
}

static int load_cursors(struct journal *journal, MDB_txn *txn, struct error *err)
{
    MDB_cursor *rows = NULL;
    MDB_val key;
    MDB_val value;
    int rc = mdb_cursor_open(txn, journal->store.db[STORE_CURSORS], &rows);

    while (rc == 0 && (rc = mdb_cursor_get(rows, &key, &value, MDB_NEXT)) == 0) {
        struct cursor_record record;
        struct cursor *cursor;

        if (!cursor_check(value.mv_data, value.mv_size, &record)) {
            rc = MDB_CORRUPTED;
            break;
        }
        cursor = cursor_get(journal, record.publisher);
        if (!cursor) {
            rc = ENOMEM;
            break;
        }
        if (record.seq > cursor->seq)
            cursor->seq = record.seq;
        cursor->pending = cursor->seq;
    }
    if (rows)
        mdb_cursor_close(rows);
    return rc == MDB_NOTFOUND ? 0
                              : store_error(&journal->store, "its cursors cannot be read", rc, err);
}

/* A number that was handed out is never handed out again, whatever the state record says: an event
 * behind a cursor would count as settled. */
static void raise_numbers(const struct journal *journal, MDB_txn *txn, struct journal_state *state)
{
    uint64_t last = edge_of(journal, txn, STORE_EVENTS, MDB_LAST, 0);

    if (state->next_seq <= last)
        state->next_seq = last + 1;
    for (size_t i = 0; i < journal->cursor_count; i++) {
        if (!cursor_is_of_letters(journal->cursors[i].publisher) &&
            state->next_seq <= journal->cursors[i].seq)
            state->next_seq = journal->cursors[i].seq + 1;
    }
    last = edge_of(journal, txn, STORE_DEAD, MDB_LAST, 0);
    if (state->next_dead <= last)
        state->next_dead = last + 1;
    last = edge_of(journal, txn, STORE_MARKS, MDB_LAST, 0);
    if (state->next_batch <= last)
        state->next_batch = last + 1;
}

static int new_secret(struct journal *journal, struct error *err)
{
    char name[] = "secret";
    struct secret_record record = {0};
    MDB_val key = {strlen(name), name};
    MDB_val value = {sizeof(record), &record};
    MDB_txn *txn;
    int rc;

    if (getrandom(record.secret, sizeof(record.secret), 0) != (ssize_t)sizeof(record.secret))
        return error_set(err, ERROR_FATAL, "no random numbers: %s", strerror(errno));
    secret_seal(&record);
    memcpy(journal->secret, record.secret, sizeof(journal->secret));
    rc = mdb_txn_begin(journal->store.env, NULL, 0, &txn);
    if (rc == 0) {
        rc = mdb_put(txn, journal->store.db[STORE_META], &key, &value, 0);
        if (rc == 0)
            rc = mdb_txn_commit(txn);
        else
            mdb_txn_abort(txn);
    }
    return rc == 0 ? 0 : store_error(&journal->store, "cannot be written", rc, err);
}

static void load_batch_of_marks(struct journal *journal, const MDB_val *value, uint32_t now_s,
                                uint32_t *last_age_s)
{
    struct marks_head head;
    bool is_sound = marks_check(value->mv_data, value->mv_size, &head);

    if (!is_sound)
        atomic_fetch_add(&journal->damaged, 1);
    else if (head.age_s > *last_age_s)
        *last_age_s = head.age_s < now_s ? head.age_s : now_s;
    if (!is_sound || now_s - *last_age_s > journal->dedupe_window_s) {
        dedupe_skip(journal->dedupe, marks_in(value->mv_size));
        return;
    }
    for (uint32_t i = 0; i < head.count; i++) {
        struct dedupe_mark mark = marks_at(value->mv_data, i);

        mark.age_s = *last_age_s;
        dedupe_add(journal->dedupe, &mark);
        if ((i + 1) % BATCH_DELIVERIES == 0)
            dedupe_confirm(journal->dedupe);
    }
    dedupe_confirm(journal->dedupe);
}

static int load_marks(struct journal *journal, MDB_txn *txn, struct error *err)
{
    uint32_t now_s = journal->durable.state.age_s;
    uint32_t last_age_s = 0;
    MDB_cursor *rows = NULL;
    MDB_val key;
    MDB_val value;
    int rc = mdb_cursor_open(txn, journal->store.db[STORE_MARKS], &rows);

    dedupe_expire(journal->dedupe, now_s);
    while (rc == 0 && (rc = mdb_cursor_get(rows, &key, &value, MDB_NEXT)) == 0)
        load_batch_of_marks(journal, &value, now_s, &last_age_s);
    if (rows)
        mdb_cursor_close(rows);
    if (rc != MDB_NOTFOUND)
        return store_error(&journal->store, "its dedupe marks cannot be read", rc, err);
    if (dedupe_evicted(journal->dedupe) < journal->durable.state.evicted)
        dedupe_set_evicted(journal->dedupe, journal->durable.state.evicted);
    return 0;
}

static int load_all(struct journal *journal, MDB_txn *txn, bool *out_has_secret, struct error *err)
{
    char name[] = "secret";
    struct progress *durable = &journal->durable;
    struct secret_record secret;
    MDB_val value;
    int rc = read_meta(journal, txn, name, &value);

    if (rc != 0 && rc != MDB_NOTFOUND)
        return store_error(&journal->store, "its secret cannot be read", rc, err);
    *out_has_secret = rc == 0;
    if (*out_has_secret && !secret_check(value.mv_data, value.mv_size, &secret))
        return damaged(journal, "its secret is damaged", err);
    if (*out_has_secret)
        memcpy(journal->secret, secret.secret, sizeof(journal->secret));
    if (load_state_record(journal, txn, &durable->state, err) < 0 ||
        load_cursors(journal, txn, err) < 0)
        return -1;
    raise_numbers(journal, txn, &durable->state);
    load_head(journal, txn, durable);
    return load_marks(journal, txn, err);
}

int state_load(struct journal *journal, struct error *err)
{
    bool has_secret = false;
    MDB_txn *txn = store_begin_read(&journal->store, err);
    int rc;

    if (!txn)
        return -1;
    rc = load_all(journal, txn, &has_secret, err);
    store_end_read(&journal->store, txn);
    if (rc < 0)
        return -1;
    journal->next = journal->durable;
    journal->age_base_s = journal->durable.state.age_s;
    journal->age_base_us = clock_monotonic_us(journal->clock);
    return has_secret ? 0 : new_secret(journal, err);
}

/* Says so when what was durable is not there any more: the disk lost it or was changed. */
static void compare_tails(const struct journal *journal, MDB_txn *txn,
                          const struct journal_state *found)
{
    const struct journal_state *durable = &journal->durable.state;
    uint64_t last = edge_of(journal, txn, STORE_EVENTS, MDB_LAST, 0);
    bool tail_is_missing =
        journal->durable.head_seq < durable->next_seq && last + 1 < durable->next_seq;

    if (found->commits > durable->commits ||
        (found->commits == durable->commits && !tail_is_missing))
        return;
    log_error("journal.lost", log_str("path", journal->store.path),
              log_i64("durable_tail", (int64_t)durable->next_seq - 1),
              log_i64("tail", (int64_t)last),
              log_str("error", "the disk no longer holds what it had confirmed"));
}

int state_reload(struct journal *journal, struct error *err)
{
    struct journal_state found = {0};
    struct progress *durable = &journal->durable;
    MDB_txn *txn = store_begin_read(&journal->store, err);
    int rc = -1;

    if (!txn)
        return -1;
    if (load_state_record(journal, txn, &found, err) == 0 && load_cursors(journal, txn, err) == 0) {
        compare_tails(journal, txn, &found);
        if (found.next_dead > durable->state.next_dead)
            durable->state.next_dead = found.next_dead;
        if (found.commits > durable->state.commits)
            durable->state.commits = found.commits;
        load_head(journal, txn, durable);
        if (durable->head_seq > durable->state.next_seq)
            progress_set_head(durable, NULL, NULL);
        store_measure(&journal->store, txn);
        rc = 0;
    }
    store_end_read(&journal->store, txn);
    return rc;
}
