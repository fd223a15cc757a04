#include <stdlib.h>
#include <string.h>

#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/journal.h"
#include "bridge/journal_internal.h"
#include "bridge/journal_store.h"
#include "schemas/event.h"

struct journal_reader {
    struct journal *journal;
    struct store *store;
};

/* One look into the journal: a short read transaction, because a long one makes the file grow. */
struct look {
    MDB_txn *txn;
    MDB_cursor *cursor;
};

struct journal_reader *journal_reader_open(struct journal *journal, struct error *err)
{
    struct journal_reader *reader = calloc(1, sizeof(*reader));

    if (!reader) {
        error_set(err, ERROR_FATAL, "out of memory");
        return NULL;
    }
    reader->journal = journal;
    reader->store = journal_store(journal);
    return reader;
}

void journal_reader_close(struct journal_reader *reader)
{
    free(reader);
}

/* Takes the guard; end_look() gives it back, also after a failure. */
static int begin_look(struct journal_reader *reader, enum store_db db, struct look *look,
                      struct error *err)
{
    int rc;

    *look = (struct look){NULL, NULL};
    pthread_rwlock_rdlock(&reader->store->guard);
    if (!reader->store->env)
        return error_set(err, ERROR_TRANSIENT, "the journal is not open");
    rc = mdb_txn_begin(reader->store->env, NULL, MDB_RDONLY, &look->txn);
    if (rc == 0)
        rc = mdb_cursor_open(look->txn, reader->store->dbs[db], &look->cursor);
    return rc == 0 ? 0 : store_error(err, rc, "read the journal");
}

static void end_look(struct journal_reader *reader, struct look *look)
{
    if (look->cursor)
        mdb_cursor_close(look->cursor);
    if (look->txn)
        mdb_txn_abort(look->txn);
    pthread_rwlock_unlock(&reader->store->guard);
}

static void report_damage(struct journal_reader *reader, const char *what, uint64_t number,
                          const char *error)
{
    journal_count_damage(reader->journal);
    log_error("journal.damaged_record", log_str("kind", what), log_i64("number", (int64_t)number),
              log_str("error", error), log_str("action", "passed over"));
}

int journal_read(struct journal_reader *reader, uint64_t from_seq, size_t max_count,
                 size_t max_bytes, struct event **out_events, struct error *err)
{
    MDB_val key = {sizeof(from_seq), &from_seq};
    struct look look;
    MDB_val value;
    size_t count = 0;
    size_t bytes = 0;
    int rc = begin_look(reader, DB_EVENTS, &look, err);

    if (rc == 0)
        rc = mdb_cursor_get(look.cursor, &key, &value, MDB_SET_RANGE);
    while (rc == 0 && count < max_count && (count == 0 || bytes + value.mv_size <= max_bytes)) {
        struct error damage = {0};
        uint64_t seq;

        memcpy(&seq, key.mv_data, sizeof(seq));
        out_events[count] = event_from_record(value.mv_data, value.mv_size, &damage);
        if (out_events[count]) {
            bytes += value.mv_size;
            count++;
        } else {
            report_damage(reader, "event", seq, damage.message);
        }
        rc = mdb_cursor_get(look.cursor, &key, &value, MDB_NEXT);
    }
    end_look(reader, &look);
    if (rc == 0 || rc == MDB_NOTFOUND)
        return (int)count;
    if (rc > 0 || rc <= MDB_KEYEXIST)
        store_error(err, rc, "read the journal");
    return count > 0 ? (int)count : -1;
}

int journal_read_parked(struct journal_reader *reader, const char *publisher, const char *topic,
                        uint64_t after_seq, uint32_t after_nth, size_t max_count,
                        struct letter *out_letters, struct error *err)
{
    unsigned char bytes[STORE_PARKED_KEY_MAX];
    size_t prefix = store_parked_key(bytes, publisher, topic, after_seq, after_nth) - 12;
    MDB_val key = {prefix + 12, bytes};
    unsigned char wanted[STORE_PARKED_KEY_MAX];
    struct look look;
    MDB_val value;
    size_t count = 0;
    int rc = begin_look(reader, DB_PARKED, &look, err);

    memcpy(wanted, bytes, prefix + 12);
    if (rc < 0) {
        end_look(reader, &look);
        return -1;
    }
    rc = mdb_cursor_get(look.cursor, &key, &value, MDB_SET_RANGE);
    for (; rc == 0 && count < max_count; rc = mdb_cursor_get(look.cursor, &key, &value, MDB_NEXT)) {
        struct letter *letter = &out_letters[count];

        if (key.mv_size != prefix + 12 || memcmp(key.mv_data, wanted, prefix) != 0)
            break;
        if (memcmp((const char *)key.mv_data + prefix, wanted + prefix, 12) == 0)
            continue; /* the one after which we were asked to begin */
        if (!store_read_letter(&value, letter, true))
            report_damage(reader, "parked record", 0, "it cannot be read");
        else if (strcmp(letter->topic, topic) != 0)
            event_unref(letter->event);
        else
            count++;
    }
    end_look(reader, &look);
    return (int)count;
}

/* What is known of one topic while the parked records are walked. */
struct parked_summary {
    struct letter first;
    uint64_t count;
};

static void report_topic(const struct parked_summary *summary,
                         void (*visit)(void *, const char *, const char *, uint64_t, int64_t,
                                       const char *),
                         void *context)
{
    if (summary->count > 0)
        visit(context, summary->first.publisher, summary->first.topic, summary->count,
              summary->first.first_ms, summary->first.reason);
}

int journal_visit_parked(struct journal_reader *reader,
                         void (*visit)(void *context, const char *publisher, const char *topic,
                                       uint64_t count, int64_t first_ms, const char *reason),
                         void *context, struct error *err)
{
    struct parked_summary summary = {.count = 0};
    struct letter letter;
    struct look look;
    MDB_val key;
    MDB_val value;

    if (begin_look(reader, DB_PARKED, &look, err) < 0) {
        end_look(reader, &look);
        return -1;
    }
    while (mdb_cursor_get(look.cursor, &key, &value, MDB_NEXT) == 0) {
        if (!store_read_letter(&value, &letter, false))
            continue;
        if (summary.count > 0 && strcmp(letter.topic, summary.first.topic) == 0 &&
            strcmp(letter.publisher, summary.first.publisher) == 0) {
            summary.count++;
            continue;
        }
        report_topic(&summary, visit, context);
        summary = (struct parked_summary){letter, 1};
    }
    report_topic(&summary, visit, context);
    end_look(reader, &look);
    return 0;
}

int journal_read_dead(struct journal_reader *reader, uint64_t after_id, size_t max_count,
                      struct letter *out_letters, struct error *err)
{
    uint64_t from = after_id + 1;
    MDB_val key = {sizeof(from), &from};
    struct look look;
    MDB_val value;
    size_t count = 0;
    int rc;

    if (begin_look(reader, DB_DEAD, &look, err) < 0) {
        end_look(reader, &look);
        return -1;
    }
    rc = mdb_cursor_get(look.cursor, &key, &value, MDB_SET_RANGE);
    for (; rc == 0 && count < max_count; rc = mdb_cursor_get(look.cursor, &key, &value, MDB_NEXT)) {
        uint64_t id;

        memcpy(&id, key.mv_data, sizeof(id));
        if (!store_read_letter(&value, &out_letters[count], true)) {
            report_damage(reader, "dead letter", id, "it cannot be read");
            continue;
        }
        out_letters[count++].id = id;
    }
    end_look(reader, &look);
    return (int)count;
}
