#include <stdlib.h>
#include <string.h>

#include <lmdb.h>

#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/journal/journal_chunks.h"
#include "bridge/journal/journal_internal.h"
#include "schemas/event.h"

/*
 * Every call is a transaction of its own: a reader never holds pages between two calls, and the
 * writer may close and open the environment in between.
 */

struct journal_reader *journal_reader_open(struct journal *journal, struct error *err)
{
    struct journal_reader *reader = malloc(sizeof(*reader));

    if (!reader) {
        error_set(err, ERROR_FATAL, "out of memory");
        return NULL;
    }
    reader->journal = journal;
    return reader;
}

void journal_reader_close(struct journal_reader *reader)
{
    free(reader);
}

/* A commit that failed may have left events behind the tail that nobody was told of: the next one
 * takes them out and gives their numbers to others. */
static bool is_behind_tail(struct journal *journal, const MDB_val *key)
{
    uint64_t seq = 0;

    if (key->mv_size == sizeof(seq))
        memcpy(&seq, key->mv_data, sizeof(seq));
    return seq > atomic_load(&journal->tail);
}

/* What one call reads. */
struct reading {
    struct journal *journal;
    uint64_t from_seq;
    size_t max_count;
    size_t max_bytes;
    struct event **events;
    size_t count;
    size_t bytes;
};

static bool is_enough(const struct reading *reading, size_t more)
{
    return reading->count == reading->max_count ||
           (reading->count > 0 && reading->bytes + more > reading->max_bytes);
}

static void complain(struct journal *journal, uint64_t seq, const struct error *why)
{
    atomic_fetch_add(&journal->damaged, 1);
    log_error("journal.damaged_record", log_str("kind", "event"), log_i64("id", (int64_t)seq),
              log_str("error", why->message), log_str("action", "passed over"));
}

/* -1: no memory; a damaged record is passed over. */
static int read_record(struct reading *reading, const struct chunk_record *record,
                       struct error *err)
{
    struct error why = {0};
    struct event *event = event_from_record(record->bytes.data, record->bytes.size, &why);

    if (event && event->record->seq == record->seq) {
        reading->events[reading->count++] = event;
        reading->bytes += record->bytes.size;
        return 0;
    }
    if (event) {
        error_set(&why, ERROR_INPUT, "it says that it is number %llu",
                  (unsigned long long)event->record->seq);
        event_unref(event);
    } else if (why.kind == ERROR_FATAL) {
        return error_set(err, ERROR_FATAL, "%s", why.message);
    }
    complain(reading->journal, record->seq, &why);
    return 0;
}

/* 1: it was read to its end; 0: enough. */
static int read_chunk(struct reading *reading, const MDB_val *key, const MDB_val *value,
                      struct error *err)
{
    struct chunk_record records[CHUNK_RECORDS];
    uint64_t last = 0;
    size_t count;

    if (key->mv_size == sizeof(last))
        memcpy(&last, key->mv_data, sizeof(last));
    count = chunk_split((struct text){value->mv_data, value->mv_size}, last, records);
    for (size_t i = 0; i < count; i++) {
        if (records[i].seq < reading->from_seq)
            continue;
        if (is_enough(reading, records[i].bytes.size))
            return 0;
        if (read_record(reading, &records[i], err) < 0)
            return -1;
    }
    return 1;
}

static int read_events(struct reading *reading, MDB_txn *txn, struct error *err)
{
    struct journal *journal = reading->journal;
    MDB_cursor *rows = NULL;
    MDB_val key = {sizeof(reading->from_seq), &reading->from_seq};
    MDB_val value;
    MDB_cursor_op op = MDB_SET_RANGE;
    int read = 1;
    int rc = mdb_cursor_open(txn, journal->store.db[STORE_EVENTS], &rows);

    while (rc == 0 && read > 0 && (rc = mdb_cursor_get(rows, &key, &value, op)) == 0) {
        op = MDB_NEXT;
        if (is_behind_tail(journal, &key))
            break;
        read = read_chunk(reading, &key, &value, err);
    }
    if (rows)
        mdb_cursor_close(rows);
    if (rc != 0 && rc != MDB_NOTFOUND)
        read = store_error(&journal->store, "its events cannot be read", rc, err);
    if (read >= 0)
        return (int)reading->count;
    while (reading->count)
        event_unref(reading->events[--reading->count]);
    return -1;
}

int journal_read(struct journal_reader *reader, uint64_t from_seq, size_t max_count,
                 size_t max_bytes, struct event **out_events, struct error *err)
{
    struct journal *journal = reader->journal;
    struct reading reading = {.journal = journal,
                              .from_seq = from_seq,
                              .max_count = max_count,
                              .max_bytes = max_bytes,
                              .events = out_events};
    MDB_txn *txn = store_begin_read(&journal->store, err);
    int count;

    if (!txn)
        return -1;
    count = read_events(&reading, txn, err);
    store_end_read(&journal->store, txn);
    return count;
}

/* ---- publishers ---- */

int journal_first(struct journal_reader *reader, const char *publisher, uint64_t *out_seq,
                  struct error *err)
{
    struct store *store = &reader->journal->store;
    struct cursor_record record = {.seq = 0};
    char name[PUBLISHER_SIZE];
    MDB_txn *txn = store_begin_read(store, err);
    MDB_val key;
    MDB_val value;
    int rc;

    if (!txn)
        return -1;
    cursor_name_first(publisher, name);
    key = (MDB_val){strlen(name), name};
    rc = mdb_get(txn, store->db[STORE_CURSORS], &key, &value);
    if (rc == 0 && !cursor_check(value.mv_data, value.mv_size, &record))
        rc = MDB_CORRUPTED;
    store_end_read(store, txn);
    if (rc != 0 && rc != MDB_NOTFOUND)
        return store_error(store, "its cursors cannot be read", rc, err);
    *out_seq = record.seq;
    return 0;
}
