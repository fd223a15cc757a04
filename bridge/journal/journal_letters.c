#include <string.h>

#include <lmdb.h>
#include <xxhash.h>

#include "bridge/journal/journal_internal.h"
#include "schemas/event.h"

/*
 * A letter is a head, its texts and a copy of the event's record, so that it outlives the event.
 * The key of a dead letter is its number; for that of a parked one see parked_key().
 */

static void put_big_endian(unsigned char *to, uint64_t value, size_t size)
{
    for (size_t i = 0; i < size; i++)
        to[i] = (unsigned char)(value >> (8 * (size - 1 - i)));
}

struct parked_key parked_key(const char *publisher, const char *topic, uint64_t seq, uint32_t nth)
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
    key.size = size + TOPIC_HASH_SIZE + PARKED_KEY_TAIL;
    return key;
}

struct parked_key parked_key_of(const struct letter_view *view)
{
    char publisher[PUBLISHER_SIZE] = "";
    char topic[TOPIC_SIZE] = ""; /* letter_check() has seen that they fit */

    memcpy(publisher, view->publisher.data, view->publisher.size);
    memcpy(topic, view->topic.data, view->topic.size);
    return parked_key(publisher, topic, view->head.seq, view->head.nth);
}

bool parked_key_is_of(const void *key, size_t size, const struct letter_view *view)
{
    struct parked_key own = parked_key_of(view);

    return size == own.size && memcmp(key, own.bytes, size) == 0;
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

static struct letter_head head_for(const struct note *note, uint64_t id, int64_t first_ms,
                                   int64_t now_ms)
{
    return (struct letter_head){
        .nth = note->nth,
        .first_ms = first_ms,
        .last_ms = now_ms,
        .seq = note->event->record->seq,
        .id = id,
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
    struct letter_head head = head_for(note, 0, 0, 0);

    return store_cost(store, letter_prefix_size(&head) + note->event->record->size);
}

int letters_park(struct store *store, struct MDB_txn *txn, const struct note *note, int64_t now_ms)
{
    struct parked_key key =
        parked_key(note->publisher, note->topic, note->event->record->seq, note->nth);
    struct letter_head head =
        head_for(note, 0, first_ms_of(store, txn, val_of_key(&key), now_ms), now_ms);

    return put_letter(txn, store->db[STORE_PARKED], val_of_key(&key), &head, note, 0);
}

int letters_unpark(struct store *store, struct MDB_txn *txn, const char *publisher,
                   const char *topic, uint64_t seq, uint32_t nth)
{
    struct parked_key key = parked_key(publisher, topic, seq, nth);
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
        struct parked_key key = parked_key(note->publisher, note->topic, seq, note->nth);

        first_ms = first_ms_of(store, txn, val_of_key(&key), now_ms);
        rc = letters_unpark(store, txn, note->publisher, note->topic, seq, note->nth);
    }
    if (rc != 0)
        return rc;
    head = head_for(note, id, first_ms, now_ms);
    return put_letter(txn, store->db[STORE_DEAD], (MDB_val){sizeof(id), &id}, &head, note,
                      MDB_APPEND);
}

int letters_rebury(struct store *store, struct MDB_txn *txn, const struct note *note,
                   int64_t now_ms)
{
    uint64_t id = note->letter;
    MDB_val key = {sizeof(id), &id};
    struct letter_head head;
    MDB_val value;
    int rc = mdb_get(txn, store->db[STORE_DEAD], &key, &value);

    if (rc != 0)
        return rc;
    head = head_for(note, id,
                    letter_check(value.mv_data, value.mv_size, &head) ? head.first_ms : now_ms,
                    now_ms);
    return put_letter(txn, store->db[STORE_DEAD], key, &head, note, 0);
}

int letters_drop(struct store *store, struct MDB_txn *txn, uint64_t id)
{
    MDB_val key = {sizeof(id), &id};

    return mdb_del(txn, store->db[STORE_DEAD], &key, NULL);
}
