/*
 * Parked records and dead letters as they are stored: a head, three names and the whole event
 * record, so that they do not depend on the events database.
 */
#include "bridge/journal_store.h"

#include <string.h>

#include <xxhash.h>

#include "schemas/event.h"

enum { LETTER_MAGIC = 0x314c4243 };

struct letter_head {
    uint32_t magic;
    uint32_t nth;
    uint64_t seq;
    int64_t first_ms;
    int64_t last_ms;
    uint16_t publisher_size;
    uint16_t topic_size;
    uint16_t reason_size;
    uint16_t unused;
};

static size_t limited(const char *string, size_t capacity)
{
    size_t size = string ? strlen(string) : 0;

    return size < capacity ? size : capacity - 1;
}

static void put(char **at, const void *bytes, size_t size)
{
    if (size)
        memcpy(*at, bytes, size);
    *at += size;
}

/* Writes a letter under `key`. */
static int put_letter(MDB_txn *txn, MDB_dbi db, MDB_val *key, unsigned flags,
                      const struct note *note, int64_t first_ms, int64_t now_ms)
{
    struct letter limits;
    struct letter_head head = {
        .magic = LETTER_MAGIC,
        .nth = note->nth,
        .seq = note->seq,
        .first_ms = first_ms,
        .last_ms = now_ms,
        .publisher_size = (uint16_t)limited(note->publisher, sizeof(limits.publisher)),
        .topic_size = (uint16_t)limited(note->topic, sizeof(limits.topic)),
        .reason_size = (uint16_t)limited(note->reason, sizeof(limits.reason)),
    };
    MDB_val value = {sizeof(head) + head.publisher_size + head.topic_size + head.reason_size +
                         note->event->record->size,
                     NULL};
    int rc = mdb_put(txn, db, key, &value, flags | MDB_RESERVE);
    char *at = value.mv_data;

    if (rc != 0)
        return rc;
    put(&at, &head, sizeof(head));
    put(&at, note->publisher, head.publisher_size);
    put(&at, note->topic, head.topic_size);
    put(&at, note->reason, head.reason_size);
    put(&at, note->event->record, note->event->record->size);
    return 0;
}

static void take_name(char *out, const char **at, size_t size)
{
    memcpy(out, *at, size);
    out[size] = '\0';
    *at += size;
}

bool store_read_letter(const MDB_val *value, struct letter *out_letter, bool with_event)
{
    struct letter_head head;
    const char *at = value->mv_data;
    size_t names;

    if (value->mv_size < sizeof(head))
        return false;
    memcpy(&head, at, sizeof(head));
    names = (size_t)head.publisher_size + head.topic_size + head.reason_size;
    if (head.magic != LETTER_MAGIC || value->mv_size < sizeof(head) + names ||
        head.publisher_size >= sizeof(out_letter->publisher) ||
        head.topic_size >= sizeof(out_letter->topic) ||
        head.reason_size >= sizeof(out_letter->reason))
        return false;
    at += sizeof(head);
    out_letter->id = head.seq;
    out_letter->nth = head.nth;
    out_letter->first_ms = head.first_ms;
    out_letter->last_ms = head.last_ms;
    take_name(out_letter->publisher, &at, head.publisher_size);
    take_name(out_letter->topic, &at, head.topic_size);
    take_name(out_letter->reason, &at, head.reason_size);
    out_letter->event = NULL;
    if (!with_event)
        return true;
    out_letter->event = event_from_record(at, value->mv_size - sizeof(head) - names, NULL);
    return out_letter->event != NULL;
}

static void put_big_endian(unsigned char **at, uint64_t number, size_t bytes)
{
    for (size_t i = bytes; i > 0; i--)
        *(*at)++ = (unsigned char)(number >> (8 * (i - 1)));
}

size_t store_parked_key(unsigned char *key, const char *publisher, const char *topic, uint64_t seq,
                        uint32_t nth)
{
    size_t size = limited(publisher, STORE_MAX_NAME + 1);
    unsigned char *at = key;

    *at++ = (unsigned char)size;
    memcpy(at, publisher, size);
    at += size;
    put_big_endian(&at, XXH3_64bits(topic, strlen(topic)), 8);
    put_big_endian(&at, seq, 8);
    put_big_endian(&at, nth, 4);
    return (size_t)(at - key);
}

static MDB_val parked_key_of(unsigned char *bytes, const struct note *note)
{
    return (MDB_val){store_parked_key(bytes, note->publisher, note->topic, note->seq, note->nth),
                     bytes};
}

int store_put_parked(struct store *store, MDB_txn *txn, const struct note *note, int64_t now_ms)
{
    unsigned char bytes[STORE_PARKED_KEY_MAX];
    MDB_val key = parked_key_of(bytes, note);

    return put_letter(txn, store->dbs[DB_PARKED], &key, 0, note, now_ms, now_ms);
}

int store_delete_parked(struct store *store, MDB_txn *txn, const struct note *note,
                        int64_t *out_first_ms)
{
    unsigned char bytes[STORE_PARKED_KEY_MAX];
    MDB_val key = parked_key_of(bytes, note);
    struct letter letter;
    MDB_val value;
    int rc = mdb_get(txn, store->dbs[DB_PARKED], &key, &value);

    if (rc == 0 && store_read_letter(&value, &letter, false))
        *out_first_ms = letter.first_ms;
    if (rc == 0)
        rc = mdb_del(txn, store->dbs[DB_PARKED], &key, NULL);
    return rc == MDB_NOTFOUND ? 0 : rc; /* gone already: done before a crash */
}

int store_put_dead(struct store *store, MDB_txn *txn, uint64_t id, const struct note *note,
                   int64_t first_ms, int64_t now_ms)
{
    MDB_val key = {sizeof(id), &id};

    return put_letter(txn, store->dbs[DB_DEAD], &key, MDB_APPEND, note, first_ms, now_ms);
}
