#include <stdlib.h>
#include <string.h>

#include <lmdb.h>

#include "bridge/base/error.h"
#include "bridge/journal_internal.h"
#include "schemas/event.h"

/* ---- events ---- */

static bool is_wanted(struct text record, const struct event_record *head, enum event_field field,
                      const char *wanted)
{
    return !wanted || text_equal_string(event_peek_field(record, head, field), wanted);
}

bool event_query_matches(const struct event_query *query, struct text record)
{
    struct event_record head;

    return event_peek(record, &head) && head.received_ms >= query->since_ms &&
           is_wanted(record, &head, EVENT_ID, query->id) &&
           is_wanted(record, &head, EVENT_LEAD_ID, query->lead_id) &&
           is_wanted(record, &head, EVENT_OBJECT_TYPE, query->object_type);
}

/* Puts the cursor on the newest row before `before`. */
static int seek_before(MDB_cursor *rows, uint64_t before, MDB_val *key, MDB_val *value)
{
    int rc;

    *key = (MDB_val){sizeof(before), &before};
    rc = before == UINT64_MAX ? MDB_NOTFOUND : mdb_cursor_get(rows, key, value, MDB_SET_RANGE);
    return mdb_cursor_get(rows, key, value, rc == 0 ? MDB_PREV : MDB_LAST);
}

/* Damaged events are passed over: who delivers them has said so. */
static int take_match(const struct event_query *query, const MDB_val *value, size_t *count,
                      struct event **out_events, struct error *err)
{
    struct text record = {value->mv_data, value->mv_size};
    struct error why = {0};
    struct event *event;

    if (!event_query_matches(query, record))
        return 0;
    event = event_from_record(record.data, record.size, &why);
    if (event)
        out_events[(*count)++] = event;
    else if (why.kind == ERROR_FATAL)
        return error_set(err, ERROR_FATAL, "%s", why.message);
    return 0;
}

static int search_rows(struct journal *journal, MDB_txn *txn, const struct event_query *query,
                       uint64_t *before, size_t max_rows, size_t max_count,
                       struct event **out_events, size_t *count, struct error *err)
{
    uint64_t tail = atomic_load(&journal->tail);
    MDB_cursor *rows = NULL;
    MDB_val key;
    MDB_val value;
    int rc = mdb_cursor_open(txn, journal->store.db[STORE_EVENTS], &rows);
    int taken = 0;

    if (rc == 0)
        rc = seek_before(rows, *before, &key, &value);
    for (size_t i = 0; rc == 0 && i < max_rows && *count < max_count && taken == 0; i++) {
        uint64_t seq = 1;

        if (key.mv_size == sizeof(seq))
            memcpy(&seq, key.mv_data, sizeof(seq));
        *before = seq;
        if (seq <= tail) /* what a failed commit left behind it is not an event */
            taken = take_match(query, &value, count, out_events, err);
        rc = mdb_cursor_get(rows, &key, &value, MDB_PREV);
    }
    if (rc == MDB_NOTFOUND)
        *before = 1;
    if (rows)
        mdb_cursor_close(rows);
    if (taken == 0 && rc != 0 && rc != MDB_NOTFOUND)
        taken = store_error(&journal->store, "its events cannot be read", rc, err);
    return taken;
}

int journal_search(struct journal_reader *reader, const struct event_query *query,
                   uint64_t *inout_before, size_t max_rows, size_t max_count,
                   struct event **out_events, struct error *err)
{
    struct journal *journal = reader->journal;
    MDB_txn *txn = store_begin_read(&journal->store, err);
    size_t count = 0;
    int rc;

    if (!txn)
        return -1;
    rc = search_rows(journal, txn, query, inout_before, max_rows, max_count, out_events, &count,
                     err);
    store_end_read(&journal->store, txn);
    if (rc == 0)
        return (int)count;
    while (count)
        event_unref(out_events[--count]);
    return -1;
}

/* ---- letters ---- */

/* Puts the cursor behind the row where the walk stands. */
static int seek_walk(MDB_cursor *rows, enum letter_list list, struct letter_walk *walk,
                     MDB_val *key, MDB_val *value)
{
    bool goes_back = list == LETTERS_DEAD;
    int rc;

    if (walk->key_size == 0)
        return mdb_cursor_get(rows, key, value, goes_back ? MDB_LAST : MDB_FIRST);
    *key = (MDB_val){walk->key_size, walk->key};
    rc = mdb_cursor_get(rows, key, value, MDB_SET_RANGE);
    if (goes_back)
        return mdb_cursor_get(rows, key, value, rc == 0 ? MDB_PREV : MDB_LAST);
    if (rc == 0 && key->mv_size == walk->key_size &&
        memcmp(key->mv_data, walk->key, walk->key_size) == 0)
        rc = mdb_cursor_get(rows, key, value, MDB_NEXT);
    return rc;
}

int journal_walk_letters(struct journal_reader *reader, enum letter_list list,
                         struct letter_walk *walk, size_t max_rows,
                         bool (*visit)(void *context, const struct letter_view *letter),
                         void *context, struct error *err)
{
    struct store *store = &reader->journal->store;
    MDB_txn *txn = store_begin_read(store, err);
    MDB_cursor *rows = NULL;
    bool goes_on = true;
    MDB_val key;
    MDB_val value;
    int rc;

    if (!txn)
        return -1;
    rc = mdb_cursor_open(txn, store->db[list == LETTERS_DEAD ? STORE_DEAD : STORE_PARKED], &rows);
    if (rc == 0)
        rc = seek_walk(rows, list, walk, &key, &value);
    for (size_t i = 0; rc == 0 && i < max_rows && goes_on; i++) {
        struct letter_view view;

        if (key.mv_size > sizeof(walk->key)) {
            rc = MDB_CORRUPTED;
            break;
        }
        memcpy(walk->key, key.mv_data, key.mv_size);
        walk->key_size = key.mv_size;
        if (letter_view(value.mv_data, value.mv_size, &view))
            goes_on = visit(context, &view);
        rc = mdb_cursor_get(rows, &key, &value, list == LETTERS_DEAD ? MDB_PREV : MDB_NEXT);
    }
    if (rows)
        mdb_cursor_close(rows);
    store_end_read(store, txn);
    if (rc != 0 && rc != MDB_NOTFOUND)
        return store_error(store, "its letters cannot be read", rc, err);
    return rc == 0 && goes_on;
}

/* ---- duplicates ---- */

void duplicates_add(struct duplicates *duplicates, const unsigned char *identity)
{
    pthread_mutex_lock(&duplicates->lock);
    memcpy(duplicates->identities[duplicates->next], identity, DEDUPE_IDENTITY_SIZE);
    duplicates->next = (duplicates->next + 1) % DUPLICATES_KEPT;
    pthread_mutex_unlock(&duplicates->lock);
}

unsigned journal_duplicates(struct journal *journal, struct event *event)
{
    struct duplicates *duplicates = journal->duplicates;
    unsigned count = 0;

    if (!event->has_identity)
        journal->intake.identify(&journal->intake, event);
    pthread_mutex_lock(&duplicates->lock);
    for (size_t i = 0; i < DUPLICATES_KEPT; i++)
        count += memcmp(duplicates->identities[i], event->identity, DEDUPE_IDENTITY_SIZE) == 0;
    pthread_mutex_unlock(&duplicates->lock);
    return count;
}
