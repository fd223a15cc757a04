#include <stdlib.h>
#include <string.h>

#include <lmdb.h>

#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/journal_internal.h"
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

/* 1: read; 0: damaged, logged and counted; -1: no memory. */
static int read_event(struct journal *journal, const MDB_val *key, const MDB_val *value,
                      struct event **out_event, struct error *err)
{
    struct error why = {0};
    uint64_t seq = 0;
    struct event *event = event_from_record(value->mv_data, value->mv_size, &why);

    if (key->mv_size == sizeof(seq))
        memcpy(&seq, key->mv_data, sizeof(seq));
    if (event && event->record->seq == seq) {
        *out_event = event;
        return 1;
    }
    if (event) {
        error_set(&why, ERROR_INPUT, "it says that it is number %llu",
                  (unsigned long long)event->record->seq);
        event_unref(event);
    } else if (why.kind == ERROR_FATAL) {
        return error_set(err, ERROR_FATAL, "%s", why.message);
    }
    atomic_fetch_add(&journal->damaged, 1);
    log_error("journal.damaged_record", log_str("kind", "event"), log_i64("id", (int64_t)seq),
              log_str("error", why.message), log_str("action", "passed over"));
    return 0;
}

static int read_events(struct journal *journal, MDB_txn *txn, uint64_t from_seq, size_t max_count,
                       size_t max_bytes, struct event **out_events, struct error *err)
{
    MDB_cursor *rows = NULL;
    MDB_val key = {sizeof(from_seq), &from_seq};
    MDB_val value;
    MDB_cursor_op op = MDB_SET_RANGE;
    size_t count = 0;
    size_t bytes = 0;
    int read = 0;
    int rc = mdb_cursor_open(txn, journal->store.db[STORE_EVENTS], &rows);

    while (rc == 0 && count < max_count && read >= 0 &&
           (rc = mdb_cursor_get(rows, &key, &value, op)) == 0) {
        op = MDB_NEXT;
        if ((count && bytes + value.mv_size > max_bytes) || is_behind_tail(journal, &key))
            break;
        read = read_event(journal, &key, &value, &out_events[count], err);
        if (read > 0) {
            count++;
            bytes += value.mv_size;
        }
    }
    if (rows)
        mdb_cursor_close(rows);
    if (rc != 0 && rc != MDB_NOTFOUND)
        read = store_error(&journal->store, "its events cannot be read", rc, err);
    if (read >= 0)
        return (int)count;
    while (count)
        event_unref(out_events[--count]);
    return -1;
}

int journal_read(struct journal_reader *reader, uint64_t from_seq, size_t max_count,
                 size_t max_bytes, struct event **out_events, struct error *err)
{
    struct journal *journal = reader->journal;
    MDB_txn *txn = store_begin_read(&journal->store, err);
    int count;

    if (!txn)
        return -1;
    count = read_events(journal, txn, from_seq, max_count, max_bytes, out_events, err);
    store_end_read(&journal->store, txn);
    return count;
}
