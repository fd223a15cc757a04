#include <stdlib.h>
#include <string.h>

#include <lmdb.h>

#include "bridge/base/error.h"
#include "bridge/journal/journal_chunks.h"
#include "bridge/journal/journal_internal.h"
#include "schemas/event.h"

/* ---- events ---- */

/* What one call looks at. */
struct search {
    const struct event_query *query;
    uint64_t before;
    uint64_t tail;
    size_t max_rows;
    size_t looked_at;
    size_t max_count;
    struct event **events;
    size_t count;
};

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

/* Damaged events are passed over: who delivers them has said so. */
static int take_match(struct search *search, struct text record, struct error *err)
{
    struct error why = {0};
    struct event *event;

    if (!event_query_matches(search->query, record))
        return 0;
    event = event_from_record(record.data, record.size, &why);
    if (event)
        search->events[search->count++] = event;
    else if (why.kind == ERROR_FATAL)
        return error_set(err, ERROR_FATAL, "%s", why.message);
    return 0;
}

/* Puts the cursor on the chunk that holds the newest event before `before`. */
static int seek_before(MDB_cursor *rows, uint64_t before, MDB_val *key, MDB_val *value)
{
    uint64_t newest = before - 1;
    int rc;

    *key = (MDB_val){sizeof(newest), &newest};
    rc = before == UINT64_MAX ? MDB_NOTFOUND : mdb_cursor_get(rows, key, value, MDB_SET_RANGE);
    return rc == MDB_NOTFOUND ? mdb_cursor_get(rows, key, value, MDB_LAST) : rc;
}

static bool is_over(const struct search *search)
{
    return search->looked_at == search->max_rows || search->count == search->max_count;
}

/* From the newest that is wanted to the oldest. */
static int search_chunk(struct search *search, const MDB_val *key, const MDB_val *value,
                        struct error *err)
{
    struct chunk_record records[CHUNK_RECORDS];
    uint64_t last = 0;
    size_t i;

    if (key->mv_size == sizeof(last))
        memcpy(&last, key->mv_data, sizeof(last));
    if (last > search->tail) /* what a failed commit left behind it are no events */
        return 0;
    i = chunk_split((struct text){value->mv_data, value->mv_size}, last, records);
    while (i > 0 && !is_over(search)) {
        const struct chunk_record *record = &records[--i];

        if (record->seq >= search->before)
            continue;
        search->before = record->seq;
        search->looked_at++;
        if (take_match(search, record->bytes, err) < 0)
            return -1;
    }
    return 0;
}

static int search_rows(struct journal *journal, MDB_txn *txn, struct search *search,
                       struct error *err)
{
    MDB_cursor *rows = NULL;
    MDB_val key;
    MDB_val value;
    int rc = mdb_cursor_open(txn, journal->store.db[STORE_EVENTS], &rows);
    int taken = 0;

    if (rc == 0)
        rc = seek_before(rows, search->before, &key, &value);
    while (rc == 0 && taken == 0 && !is_over(search)) {
        taken = search_chunk(search, &key, &value, err);
        if (!is_over(search))
            rc = mdb_cursor_get(rows, &key, &value, MDB_PREV);
    }
    if (rc == MDB_NOTFOUND)
        search->before = 1;
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
    struct search search = {.query = query,
                            .before = *inout_before,
                            .tail = atomic_load(&journal->tail),
                            .max_rows = max_rows,
                            .max_count = max_count,
                            .events = out_events};
    MDB_txn *txn = store_begin_read(&journal->store, err);
    int rc;

    if (!txn)
        return -1;
    rc = search_rows(journal, txn, &search, err);
    store_end_read(&journal->store, txn);
    *inout_before = search.before;
    if (rc == 0)
        return (int)search.count;
    while (search.count)
        event_unref(out_events[--search.count]);
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
