#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <lmdb.h>

#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/journal/journal_internal.h"
#include "schemas/event.h"

enum { DEAD_PER_CALL = 4096 }; /* letters looked at */

static uint64_t get_big_endian(const unsigned char *from, size_t size)
{
    uint64_t value = 0;

    for (size_t i = 0; i < size; i++)
        value = value << 8 | from[i];
    return value;
}

static void copy_text(char *to, struct text from)
{
    memcpy(to, from.data, from.size);
    to[from.size] = '\0';
}

/* All but the event. */
static void copy_letter(struct letter *letter, uint64_t id, const struct letter_view *view)
{
    letter->id = id;
    letter->nth = view->head.nth;
    letter->first_ms = view->head.first_ms;
    letter->last_ms = view->head.last_ms;
    copy_text(letter->publisher, view->publisher);
    copy_text(letter->topic, view->topic);
    copy_text(letter->reason, view->reason);
}

static void report_damage(struct journal *journal, const char *kind, uint64_t id, const char *why)
{
    atomic_fetch_add(&journal->damaged, 1);
    log_error("journal.damaged_record", log_str("kind", kind), log_i64("id", (int64_t)id),
              log_str("error", why), log_str("action", "passed over"));
}

static bool passes(const struct letter_query *query, const struct letter_view *view)
{
    return (!query->publisher || text_equal_string(view->publisher, query->publisher)) &&
           (!query->topic || text_equal_string(view->topic, query->topic)) &&
           (!query->reason || text_equal_string(view->reason, query->reason));
}

/* What a call has read so far. */
struct reading {
    struct journal *journal;
    const char *kind;
    struct letter_query query;
    struct letter *letters;      /* or, of dead letters, only ... */
    struct letter_place *places; /* ... when this is not NULL */
    size_t count;
    size_t bytes;
    bool has_failed;
    struct error *err;
};

static bool fail_without_memory(struct reading *reading)
{
    error_set(reading->err, ERROR_FATAL, "out of memory");
    reading->has_failed = true;
    return false;
}

static bool take_place(struct reading *reading, uint64_t id, const struct letter_view *view)
{
    reading->places[reading->count++] = (struct letter_place){id, view->head.seq, view->head.nth};
    return true;
}

/* Takes the letter, or passes over one that is damaged or not asked for. False: it does not fit. */
static bool take_letter(struct reading *reading, uint64_t id, const MDB_val *value)
{
    struct error why = {.message = "the head does not match its checksum"};
    struct letter_view view;
    struct event *event = NULL;

    if (letter_view(value->mv_data, value->mv_size, &view)) {
        if (!passes(&reading->query, &view))
            return true;
        if (reading->places)
            return take_place(reading, id, &view);
        if (reading->count > 0 && reading->bytes + view.record.size > reading->query.max_bytes)
            return false;
        event = event_from_record(view.record.data, view.record.size, &why);
    }
    if (event) {
        assert(reading->letters); /* without places */
        copy_letter(&reading->letters[reading->count], id, &view);
        reading->letters[reading->count++].event = event;
        reading->bytes += view.record.size;
        return true;
    }
    if (why.kind == ERROR_FATAL)
        return fail_without_memory(reading);
    report_damage(reading->journal, reading->kind, id, why.message);
    return true;
}

static int finish(struct reading *reading, int rc)
{
    if (rc != 0 && rc != MDB_NOTFOUND && !reading->has_failed) {
        store_error(&reading->journal->store, "its letters cannot be read", rc, reading->err);
        reading->has_failed = true;
    }
    if (!reading->has_failed)
        return (int)reading->count;
    while (reading->count && !reading->places)
        event_unref(reading->letters[--reading->count].event);
    return -1;
}

/* ---- parked records ---- */

/* Takes the record, or passes over one that is damaged, also in its key. False: it does not fit. */
static bool take_parked(struct reading *reading, const MDB_val *key, const MDB_val *value)
{
    const unsigned char *tail =
        (const unsigned char *)key->mv_data + key->mv_size - PARKED_KEY_TAIL;
    uint64_t seq = get_big_endian(tail, 8);
    struct letter_view view;

    if (letter_view(value->mv_data, value->mv_size, &view) &&
        !parked_key_is_of(key->mv_data, key->mv_size, &view)) {
        report_damage(reading->journal, reading->kind, seq, "it lies under a key of another one");
        return true;
    }
    return take_letter(reading, seq, value);
}

static int read_topic(struct reading *reading, MDB_txn *txn, struct parked_key *start)
{
    size_t prefix = start->size - PARKED_KEY_TAIL;
    MDB_val key = {start->size, start->bytes};
    MDB_cursor_op op = MDB_SET_RANGE;
    MDB_cursor *rows = NULL;
    MDB_val value;
    int rc = mdb_cursor_open(txn, reading->journal->store.db[STORE_PARKED], &rows);

    while (rc == 0 && reading->count < reading->query.max_count &&
           (rc = mdb_cursor_get(rows, &key, &value, op)) == 0) {
        op = MDB_NEXT;
        if (key.mv_size != start->size || memcmp(key.mv_data, start->bytes, prefix) != 0 ||
            !take_parked(reading, &key, &value))
            break;
    }
    if (rows)
        mdb_cursor_close(rows);
    return rc;
}

int journal_read_parked(struct journal_reader *reader, const struct letter_query *query,
                        struct letter *out_letters, struct error *err)
{
    struct reading reading = {.journal = reader->journal,
                              .kind = "parked",
                              .query = *query,
                              .letters = out_letters,
                              .err = err};
    bool is_last = query->after_nth == UINT32_MAX;
    struct parked_key start =
        parked_key(query->publisher, query->topic, query->after_id + (is_last ? 1 : 0),
                   is_last ? 0 : query->after_nth + 1);
    MDB_txn *txn = store_begin_read(&reader->journal->store, err);
    int rc;

    if (!txn)
        return -1;
    reading.query.reason = NULL;
    rc = read_topic(&reading, txn, &start);
    store_end_read(&reader->journal->store, txn);
    return finish(&reading, rc);
}

/* ---- dead letters ---- */

static int read_shelf(struct reading *reading, MDB_txn *txn, uint64_t *out_after)
{
    uint64_t id = reading->query.after_id + 1;
    MDB_val key = {sizeof(id), &id};
    MDB_cursor_op op = MDB_SET_RANGE;
    MDB_cursor *rows = NULL;
    MDB_val value;
    int rc = mdb_cursor_open(txn, reading->journal->store.db[STORE_DEAD], &rows);

    *out_after = reading->query.after_id;
    for (int i = 0; rc == 0 && i < DEAD_PER_CALL && reading->count < reading->query.max_count;
         i++) {
        rc = mdb_cursor_get(rows, &key, &value, op);
        if (rc != 0 || key.mv_size != sizeof(id))
            break;
        op = MDB_NEXT;
        memcpy(&id, key.mv_data, sizeof(id));
        if (!take_letter(reading, id, &value))
            break;
        *out_after = id;
    }
    if (rows)
        mdb_cursor_close(rows);
    if (rc == MDB_NOTFOUND)
        *out_after = UINT64_MAX;
    return rc;
}

static int read_dead(struct reading *reading, uint64_t *out_after)
{
    struct store *store = &reading->journal->store;
    MDB_txn *txn;
    int rc;

    reading->kind = "dead";
    *out_after = UINT64_MAX;
    if (reading->query.after_id == UINT64_MAX)
        return 0;
    txn = store_begin_read(store, reading->err);
    if (!txn)
        return -1;
    rc = read_shelf(reading, txn, out_after);
    store_end_read(store, txn);
    return finish(reading, rc);
}

int journal_read_dead(struct journal_reader *reader, const struct letter_query *query,
                      struct letter *out_letters, uint64_t *out_after, struct error *err)
{
    struct reading reading = {
        .journal = reader->journal, .query = *query, .letters = out_letters, .err = err};

    return read_dead(&reading, out_after);
}

int journal_list_dead(struct journal_reader *reader, const struct letter_query *query,
                      struct letter_place *out_places, uint64_t *out_after, struct error *err)
{
    struct reading reading = {
        .journal = reader->journal, .query = *query, .places = out_places, .err = err};

    return read_dead(&reading, out_after);
}

/* ---- the topics that have parked records ---- */

struct topic_count {
    unsigned char prefix[PUBLISHER_SIZE + TOPIC_HASH_SIZE];
    size_t prefix_size;
    uint64_t count;
    int64_t first_ms; /* of the oldest */
    char publisher[PUBLISHER_SIZE];
    char topic[1025];
    char reason[64]; /* of the first in order */
};

typedef void visit_topic(void *context, const char *publisher, const char *topic, uint64_t count,
                         int64_t first_ms, const char *reason);

static void start_topic(struct topic_count *topic, const MDB_val *key, const struct letter *letter)
{
    topic->prefix_size = key->mv_size - PARKED_KEY_TAIL;
    memcpy(topic->prefix, key->mv_data, topic->prefix_size);
    topic->count = 0;
    topic->first_ms = letter->first_ms;
    memcpy(topic->publisher, letter->publisher, sizeof(topic->publisher));
    memcpy(topic->topic, letter->topic, sizeof(topic->topic));
    memcpy(topic->reason, letter->reason, sizeof(topic->reason));
}

static void count_parked(struct topic_count *topic, const MDB_val *key, const MDB_val *value,
                         visit_topic *visit, void *context)
{
    struct letter_view view;
    struct letter letter;

    if (key->mv_size < PARKED_KEY_TAIL || key->mv_size - PARKED_KEY_TAIL > sizeof(topic->prefix) ||
        !letter_view(value->mv_data, value->mv_size, &view))
        return; /* reading the list reports it */
    copy_letter(&letter, 0, &view);
    if (topic->prefix_size != key->mv_size - PARKED_KEY_TAIL ||
        memcmp(topic->prefix, key->mv_data, topic->prefix_size) != 0) {
        if (topic->count)
            visit(context, topic->publisher, topic->topic, topic->count, topic->first_ms,
                  topic->reason);
        start_topic(topic, key, &letter);
    }
    topic->count++;
    if (letter.first_ms < topic->first_ms)
        topic->first_ms = letter.first_ms;
}

int journal_visit_parked(struct journal_reader *reader, visit_topic *visit, void *context,
                         struct error *err)
{
    struct journal *journal = reader->journal;
    struct topic_count topic = {.count = 0};
    MDB_txn *txn = store_begin_read(&journal->store, err);
    MDB_cursor *rows = NULL;
    MDB_val key;
    MDB_val value;
    int rc;

    if (!txn)
        return -1;
    rc = mdb_cursor_open(txn, journal->store.db[STORE_PARKED], &rows);
    while (rc == 0 && (rc = mdb_cursor_get(rows, &key, &value, MDB_NEXT)) == 0)
        count_parked(&topic, &key, &value, visit, context);
    if (topic.count)
        visit(context, topic.publisher, topic.topic, topic.count, topic.first_ms, topic.reason);
    if (rows)
        mdb_cursor_close(rows);
    store_end_read(&journal->store, txn);
    return rc == MDB_NOTFOUND
               ? 0
               : store_error(&journal->store, "its parked records cannot be read", rc, err);
}

int journal_visit_dead(struct journal_reader *reader,
                       void (*visit)(void *context, const char *publisher), void *context,
                       struct error *err)
{
    struct journal *journal = reader->journal;
    MDB_txn *txn = store_begin_read(&journal->store, err);
    MDB_cursor *rows = NULL;
    struct letter_view view;
    struct letter letter;
    MDB_val key;
    MDB_val value;
    int rc;

    if (!txn)
        return -1;
    rc = mdb_cursor_open(txn, journal->store.db[STORE_DEAD], &rows);
    while (rc == 0 && (rc = mdb_cursor_get(rows, &key, &value, MDB_NEXT)) == 0) {
        if (!letter_view(value.mv_data, value.mv_size, &view))
            continue; /* reading the list reports it */
        copy_letter(&letter, 0, &view);
        visit(context, letter.publisher);
    }
    if (rows)
        mdb_cursor_close(rows);
    store_end_read(&journal->store, txn);
    return rc == MDB_NOTFOUND
               ? 0
               : store_error(&journal->store, "its dead letters cannot be read", rc, err);
}
