#include <stdbool.h>
#include <string.h>

#include <lmdb.h>

#include "bridge/base/error.h"
#include "bridge/journal/journal_chunks.h"
#include "bridge/journal/journal_internal.h"
#include "schemas/event.h"

/* Where a search stands: the number that is looked for lies in [first, end]. */
struct search {
    MDB_cursor *rows;
    int64_t received_ms;
    uint64_t first;
    uint64_t end;
};

static uint64_t number_in(const MDB_val *key, uint64_t none)
{
    uint64_t number = none;

    if (key->mv_size == sizeof(number))
        memcpy(&number, key->mv_data, sizeof(number));
    return number;
}

/* The first sound event of a chunk from number `from` on; false without one. Whoever reads the
 * damaged ones says so. */
static bool first_sound(const MDB_val *key, const MDB_val *value, uint64_t from,
                        struct event_record *out_head)
{
    struct chunk_record records[CHUNK_RECORDS];
    size_t count =
        chunk_split((struct text){value->mv_data, value->mv_size}, number_in(key, 0), records);

    for (size_t i = 0; i < count; i++) {
        struct event *event =
            records[i].seq < from
                ? NULL
                : event_from_record(records[i].bytes.data, records[i].bytes.size, NULL);

        if (!event)
            continue;
        *out_head = *event->record;
        event_unref(event);
        return true;
    }
    return false;
}

/* Looks at the first sound event from the middle on: one half is left. */
static int halve(struct search *search)
{
    uint64_t middle = search->first + (search->end - search->first) / 2;
    uint64_t from = middle;
    MDB_val key = {sizeof(from), &from};
    MDB_val value;
    struct event_record head = {.seq = search->end};
    int rc = mdb_cursor_get(search->rows, &key, &value, MDB_SET_RANGE);

    while (rc == 0 && !first_sound(&key, &value, middle, &head) &&
           number_in(&key, search->end) < search->end)
        rc = mdb_cursor_get(search->rows, &key, &value, MDB_NEXT);
    if (rc != 0 && rc != MDB_NOTFOUND)
        return rc;
    if (head.seq < search->end && head.received_ms < search->received_ms)
        search->first = head.seq + 1;
    else
        search->end = middle;
    return 0;
}

static int find(const struct journal *journal, MDB_txn *txn, struct search *search)
{
    MDB_val key;
    MDB_val value;
    int rc = mdb_cursor_open(txn, journal->store.db[STORE_EVENTS], &search->rows);

    if (rc != 0)
        return rc;
    rc = mdb_cursor_get(search->rows, &key, &value, MDB_FIRST);
    search->first = search->end;
    if (rc == 0)
        search->first =
            chunk_first((struct text){value.mv_data, value.mv_size}, number_in(&key, search->end));
    if (search->first > search->end)
        search->first = search->end;
    while (rc == 0 && search->first < search->end)
        rc = halve(search);
    mdb_cursor_close(search->rows);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int journal_find(struct journal_reader *reader, int64_t received_ms, uint64_t *out_seq,
                 struct error *err)
{
    struct journal *journal = reader->journal;
    struct search search = {.received_ms = received_ms, .end = atomic_load(&journal->tail) + 1};
    MDB_txn *txn = store_begin_read(&journal->store, err);
    int rc;

    if (!txn)
        return -1;
    rc = find(journal, txn, &search);
    store_end_read(&journal->store, txn);
    if (rc != 0)
        return store_error(&journal->store, "its events cannot be read", rc, err);
    *out_seq = search.first;
    return 0;
}
