#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <lmdb.h>
#include <xxhash.h>

#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/journal_internal.h"
#include "schemas/event.h"

/*
 * A letter is a head, its texts and a copy of the event's record, so that it outlives the event.
 * The key of a parked one is publisher, 0, hash of the topic, seq, nth (big endian), which sorts
 * the records of a topic in their order; that of a dead letter is its number.
 */

enum { TOPIC_HASH_SIZE = 16, KEY_TAIL = TOPIC_HASH_SIZE + 8 + 4 };

struct parked_key {
    unsigned char bytes[PUBLISHER_SIZE + KEY_TAIL];
    size_t size;
};

static void put_big_endian(unsigned char *to, uint64_t value, size_t size)
{
    for (size_t i = 0; i < size; i++)
        to[i] = (unsigned char)(value >> (8 * (size - 1 - i)));
}

static uint64_t get_big_endian(const unsigned char *from, size_t size)
{
    uint64_t value = 0;

    for (size_t i = 0; i < size; i++)
        value = value << 8 | from[i];
    return value;
}

static struct parked_key make_key(const char *publisher, const char *topic, uint64_t seq,
                                  uint32_t nth)
{
    struct parked_key key;
    size_t size = strnlen(publisher, PUBLISHER_SIZE - 1);
    XXH128_canonical_t hash;

    XXH128_canonicalFromHash(&hash, XXH3_128bits(topic, strlen(topic)));
    memcpy(key.bytes, publisher, size);
    key.bytes[size++] = '\0';
    memcpy(key.bytes + size, hash.digest, TOPIC_HASH_SIZE);
    put_big_endian(key.bytes + size + TOPIC_HASH_SIZE, seq, 8);
    put_big_endian(key.bytes + size + TOPIC_HASH_SIZE + 8, nth, 4);
    key.size = size + KEY_TAIL;
    return key;
}

static MDB_val val_of_key(struct parked_key *key)
{
    return (MDB_val){key->size, key->bytes};
}

/* ---- writing ---- */

static size_t cut(const char *text, size_t capacity)
{
    return text ? strnlen(text, capacity - 1) : 0;
}

static struct letter_head head_for(const struct note *note, int64_t first_ms, int64_t now_ms)
{
    return (struct letter_head){
        .nth = note->nth,
        .first_ms = first_ms,
        .last_ms = now_ms,
        .seq = note->event->record->seq,
        .publisher_size = (uint16_t)cut(note->publisher, sizeof(((struct letter *)0)->publisher)),
        .topic_size = (uint16_t)cut(note->topic, sizeof(((struct letter *)0)->topic)),
        .reason_size = (uint16_t)cut(note->reason, sizeof(((struct letter *)0)->reason)),
    };
}

static char *append(char *to, const char *text, size_t size)
{
    if (size)
        memcpy(to, text, size);
    return to + size;
}

/* The texts follow the head in the order publisher, topic, reason; then the event's record. */
static void fill_letter(void *memory, struct letter_head head, const struct note *note)
{
    char *at = (char *)memory + sizeof(head);

    at = append(at, note->publisher, head.publisher_size);
    at = append(at, note->topic, head.topic_size);
    at = append(at, note->reason, head.reason_size);
    append(at, (const char *)note->event->record, note->event->record->size);
    letter_seal(memory, head);
}

static int put_letter(MDB_txn *txn, MDB_dbi db, MDB_val key, const struct letter_head *head,
                      const struct note *note, unsigned flags)
{
    MDB_val value = {letter_prefix_size(head) + note->event->record->size, NULL};
    int rc = mdb_put(txn, db, &key, &value, flags | MDB_RESERVE);

    if (rc == 0)
        fill_letter(value.mv_data, *head, note);
    return rc;
}

/* When the letter under the key was first written; `otherwise` without one. */
static int64_t first_ms_of(const struct store *store, MDB_txn *txn, MDB_val key, int64_t otherwise)
{
    struct letter_head head;
    MDB_val value;

    if (mdb_get(txn, store->db[STORE_PARKED], &key, &value) != 0 ||
        !letter_check(value.mv_data, value.mv_size, &head))
        return otherwise;
    return head.first_ms;
}

uint64_t letters_cost(const struct store *store, const struct note *note)
{
    struct letter_head head = head_for(note, 0, 0);

    return store_cost(store, letter_prefix_size(&head) + note->event->record->size);
}

int letters_park(struct store *store, struct MDB_txn *txn, const struct note *note, int64_t now_ms)
{
    struct parked_key key =
        make_key(note->publisher, note->topic, note->event->record->seq, note->nth);
    struct letter_head head =
        head_for(note, first_ms_of(store, txn, val_of_key(&key), now_ms), now_ms);

    return put_letter(txn, store->db[STORE_PARKED], val_of_key(&key), &head, note, 0);
}

int letters_unpark(struct store *store, struct MDB_txn *txn, const char *publisher,
                   const char *topic, uint64_t seq, uint32_t nth)
{
    struct parked_key key = make_key(publisher, topic, seq, nth);
    MDB_val val = val_of_key(&key);
    int rc = mdb_del(txn, store->db[STORE_PARKED], &val, NULL);

    return rc == MDB_NOTFOUND ? 0 : rc; /* it left with an earlier try whose answer was lost */
}

int letters_drop_parked(struct store *store, struct MDB_txn *txn, const char *publisher)
{
    size_t size = strlen(publisher) + 1; /* keys begin with the name and its terminator */
    MDB_val key = {size, (void *)(uintptr_t)publisher};
    MDB_cursor *rows;
    MDB_val value;
    int rc = mdb_cursor_open(txn, store->db[STORE_PARKED], &rows);

    if (rc != 0)
        return rc;
    rc = mdb_cursor_get(rows, &key, &value, MDB_SET_RANGE);
    while (rc == 0 && key.mv_size > size && memcmp(key.mv_data, publisher, size) == 0) {
        rc = mdb_cursor_del(rows, 0);
        if (rc == 0)
            rc = mdb_cursor_get(rows, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(rows);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int letters_bury(struct store *store, struct MDB_txn *txn, const struct note *note, uint64_t id,
                 int64_t now_ms)
{
    uint64_t seq = note->event->record->seq;
    int64_t first_ms = now_ms;
    struct letter_head head;
    int rc = 0;

    if (note->was_parked) {
        struct parked_key key = make_key(note->publisher, note->topic, seq, note->nth);

        first_ms = first_ms_of(store, txn, val_of_key(&key), now_ms);
        rc = letters_unpark(store, txn, note->publisher, note->topic, seq, note->nth);
    }
    if (rc != 0)
        return rc;
    head = head_for(note, first_ms, now_ms);
    return put_letter(txn, store->db[STORE_DEAD], (MDB_val){sizeof(id), &id}, &head, note,
                      MDB_APPEND);
}

/* ---- reading ---- */

static const char *copy_text(char *to, const char *from, size_t size)
{
    memcpy(to, from, size);
    to[size] = '\0';
    return from + size;
}

static void copy_head(struct letter *letter, const struct letter_head *head, const char *texts)
{
    letter->nth = head->nth;
    letter->first_ms = head->first_ms;
    letter->last_ms = head->last_ms;
    texts = copy_text(letter->publisher, texts, head->publisher_size);
    texts = copy_text(letter->topic, texts, head->topic_size);
    copy_text(letter->reason, texts, head->reason_size);
}

/* 1: read; 0: damaged, logged and counted; -1: no memory. */
static int read_letter(struct journal *journal, const char *kind, uint64_t id, const MDB_val *value,
                       struct letter *out_letter, struct error *err)
{
    const char *texts = (const char *)value->mv_data + sizeof(struct letter_head);
    struct letter_head head;
    struct error why = {.message = "the head does not match its checksum"};

    if (letter_check(value->mv_data, value->mv_size, &head)) {
        size_t before = letter_prefix_size(&head);
        struct event *event =
            event_from_record((const char *)value->mv_data + before, value->mv_size - before, &why);

        if (event) {
            copy_head(out_letter, &head, texts);
            out_letter->id = id;
            out_letter->event = event;
            return 1;
        }
        if (why.kind == ERROR_FATAL)
            return error_set(err, ERROR_FATAL, "%s", why.message);
    }
    atomic_fetch_add(&journal->damaged, 1);
    log_error("journal.damaged_record", log_str("kind", kind), log_i64("id", (int64_t)id),
              log_str("error", why.message), log_str("action", "passed over"));
    return 0;
}

static void release_letters(struct letter *letters, size_t count)
{
    for (size_t i = 0; i < count; i++)
        event_unref(letters[i].event);
}

/* Whether the row is still of the list that begins with `prefix`; the id it shows. */
struct letter_list {
    const char *kind;
    enum store_db db;
    const unsigned char *prefix; /* NULL: every row */
    size_t prefix_size;
};

static bool row_belongs(const struct letter_list *list, const MDB_val *key, uint64_t *out_id)
{
    if (!list->prefix) {
        if (key->mv_size != sizeof(*out_id))
            return false;
        memcpy(out_id, key->mv_data, sizeof(*out_id));
        return true;
    }
    if (key->mv_size != list->prefix_size + 12 ||
        memcmp(key->mv_data, list->prefix, list->prefix_size) != 0)
        return false;
    *out_id = get_big_endian((const unsigned char *)key->mv_data + list->prefix_size, 8);
    return true;
}

/* Reads rows from `start` on into `out_letters`; the number read or -1. */
static int read_letters(struct journal *journal, MDB_txn *txn, const struct letter_list *list,
                        MDB_val start, size_t max_count, struct letter *out_letters,
                        struct error *err)
{
    MDB_cursor *rows = NULL;
    MDB_val key = start;
    MDB_val value;
    size_t count = 0;
    int rc = mdb_cursor_open(txn, journal->store.db[list->db], &rows);
    MDB_cursor_op op = MDB_SET_RANGE;
    int read = 0;

    while (rc == 0 && count < max_count && read >= 0 &&
           (rc = mdb_cursor_get(rows, &key, &value, op)) == 0) {
        uint64_t id;

        op = MDB_NEXT;
        if (!row_belongs(list, &key, &id))
            break;
        read = read_letter(journal, list->kind, id, &value, &out_letters[count], err);
        if (read > 0)
            count++;
    }
    if (rows)
        mdb_cursor_close(rows);
    if (rc != 0 && rc != MDB_NOTFOUND)
        read = store_error(&journal->store, "its letters cannot be read", rc, err);
    if (read < 0) {
        release_letters(out_letters, count);
        return -1;
    }
    return (int)count;
}

static int read_list(struct journal *journal, const struct letter_list *list, MDB_val start,
                     size_t max_count, struct letter *out_letters, struct error *err)
{
    MDB_txn *txn = store_begin_read(&journal->store, err);
    int count;

    if (!txn)
        return -1;
    count = read_letters(journal, txn, list, start, max_count, out_letters, err);
    store_end_read(&journal->store, txn);
    return count;
}

int journal_read_parked(struct journal_reader *reader, const char *publisher, const char *topic,
                        uint64_t after_seq, uint32_t after_nth, size_t max_count,
                        struct letter *out_letters, struct error *err)
{
    uint32_t nth = after_nth == UINT32_MAX ? 0 : after_nth + 1;
    struct parked_key key =
        make_key(publisher, topic, after_nth == UINT32_MAX ? after_seq + 1 : after_seq, nth);
    struct letter_list list = {"parked", STORE_PARKED, key.bytes, key.size - 12};

    return read_list(reader->journal, &list, val_of_key(&key), max_count, out_letters, err);
}

int journal_read_dead(struct journal_reader *reader, uint64_t after_id, size_t max_count,
                      struct letter *out_letters, struct error *err)
{
    struct letter_list list = {"dead", STORE_DEAD, NULL, 0};
    uint64_t id = after_id + 1;

    return read_list(reader->journal, &list, (MDB_val){sizeof(id), &id}, max_count, out_letters,
                     err);
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
    topic->prefix_size = key->mv_size - 12;
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
    struct letter_head head;
    struct letter letter;

    if (key->mv_size < 12 || key->mv_size - 12 > sizeof(topic->prefix) ||
        !letter_check(value->mv_data, value->mv_size, &head))
        return; /* reading the list reports it */
    copy_head(&letter, &head, (const char *)value->mv_data + sizeof(head));
    if (topic->prefix_size != key->mv_size - 12 ||
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
    struct letter_head head;
    struct letter letter;
    MDB_val key;
    MDB_val value;
    int rc;

    if (!txn)
        return -1;
    rc = mdb_cursor_open(txn, journal->store.db[STORE_DEAD], &rows);
    while (rc == 0 && (rc = mdb_cursor_get(rows, &key, &value, MDB_NEXT)) == 0) {
        if (!letter_check(value.mv_data, value.mv_size, &head))
            continue; /* reading the list reports it */
        copy_head(&letter, &head, (const char *)value.mv_data + sizeof(head));
        visit(context, letter.publisher);
    }
    if (rows)
        mdb_cursor_close(rows);
    store_end_read(&journal->store, txn);
    return rc == MDB_NOTFOUND
               ? 0
               : store_error(&journal->store, "its dead letters cannot be read", rc, err);
}
