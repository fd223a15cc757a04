#include "bridge/journal/journal_rebuild.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <lmdb.h>

#include "bridge/base/error.h"
#include "bridge/journal/journal_chunks.h"
#include "bridge/journal/journal_internal.h"
#include "bridge/journal/journal_plan.h"
#include "bridge/journal/journal_salvage.h"
#include "schemas/event.h"

enum { COMMIT_ROWS = 2000, COMMIT_BYTES = 8 * 1024 * 1024, MARKS_PER_BATCH = 4096 };

struct rebuild {
    const struct plan *plan;
    struct salvage_report *report;
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi db[STORE_DB_COUNT];
    size_t rows; /* in the transaction */
    size_t bytes;
    uint64_t next_seq;
    uint64_t next_dead;
    uint64_t next_batch;
    char *value; /* read from the damaged file */
    size_t value_capacity;
    struct chunk_buffer {
        char bytes[CHUNK_BYTES];
        size_t size;
        uint64_t last;
        uint32_t age_s; /* of all in it: they are deleted together */
    } chunk;
    struct marks_buffer {
        char bytes[sizeof(struct marks_head) + MARKS_PER_BATCH * MARK_SIZE];
        uint32_t count;
        uint32_t age_s;
    } marks;
};

/* ---- rows ---- */

static int begin(struct rebuild *rebuild)
{
    rebuild->rows = rebuild->bytes = 0;
    return mdb_txn_begin(rebuild->env, NULL, 0, &rebuild->txn);
}

static int put(struct rebuild *rebuild, enum store_db db, MDB_val key, const void *data,
               size_t size)
{
    MDB_val value = {size, (void *)(uintptr_t)data};
    int rc = mdb_put(rebuild->txn, rebuild->db[db], &key, &value, 0);

    rebuild->rows++;
    rebuild->bytes += size;
    if (rc != 0 || (rebuild->rows < COMMIT_ROWS && rebuild->bytes < COMMIT_BYTES))
        return rc;
    rc = mdb_txn_commit(rebuild->txn);
    rebuild->txn = NULL;
    return rc ? rc : begin(rebuild);
}

static int put_number(struct rebuild *rebuild, enum store_db db, uint64_t number, const void *data,
                      size_t size)
{
    return put(rebuild, db, (MDB_val){sizeof(number), &number}, data, size);
}

static int put_name(struct rebuild *rebuild, enum store_db db, const char *name, const void *data,
                    size_t size)
{
    return put(rebuild, db, (MDB_val){strlen(name), (void *)(uintptr_t)name}, data, size);
}

/* Reads a value again that was sound when it was found. */
static int read_value(struct rebuild *rebuild, uint64_t offset, size_t size)
{
    const struct image_source *source = rebuild->plan->image->source;
    char *bigger;

    if (size > rebuild->value_capacity) {
        bigger = realloc(rebuild->value, size);
        if (!bigger)
            return ENOMEM;
        rebuild->value = bigger;
        rebuild->value_capacity = size;
    }
    return source->read(source->context, offset, rebuild->value, size) ? 0 : EIO;
}

/* ---- marks ---- */

static int flush_marks(struct rebuild *rebuild)
{
    struct marks_buffer *marks = &rebuild->marks;
    int rc;

    if (marks->count == 0)
        return 0;
    marks_seal(marks->bytes, marks->age_s, marks->count);
    rc = put_number(rebuild, STORE_MARKS, rebuild->next_batch++, marks->bytes,
                    sizeof(struct marks_head) + (size_t)marks->count * MARK_SIZE);
    rebuild->report->marks += marks->count;
    marks->count = 0;
    return rc;
}

/* Marks the event anew when the batches that may have held its mark are not kept. */
static int mark_event(struct rebuild *rebuild, struct event *event)
{
    const struct plan *plan = rebuild->plan;
    struct marks_buffer *marks = &rebuild->marks;
    struct dedupe_mark mark;
    int rc = 0;

    if (!plan->has_secret || event->record->journal_age < plan->marked_until_s)
        return 0;
    if (marks->count == MARKS_PER_BATCH || marks->age_s != event->record->journal_age)
        rc = flush_marks(rebuild);
    identity_set(plan->secret.secret, event);
    marks->age_s = event->record->journal_age;
    mark.content = event->content;
    mark.place = (uint32_t)event->record->seq;
    memcpy(mark.identity, event->identity, sizeof(mark.identity));
    marks_put(marks->bytes, marks->count++, &mark);
    return rc;
}

static int write_marks(struct rebuild *rebuild)
{
    const struct plan *plan = rebuild->plan;
    int rc = 0;

    for (size_t i = 0; i < plan->mark_batches && rc == 0; i++) {
        const struct plan_marks *marks = &plan->marks[i];

        rc = read_value(rebuild, marks->offset, marks->size);
        if (rc == 0)
            rc = put_number(rebuild, STORE_MARKS, rebuild->next_batch++, rebuild->value,
                            marks->size);
        rebuild->report->marks += marks->count;
    }
    return rc;
}

/* ---- events and letters ---- */

/* An authentic body that is no event was a dead letter, whose head is lost. */
static int write_opaque(struct rebuild *rebuild, const struct event *event, int64_t now_ms)
{
    static const char publisher[] = "webhook";
    static const char reason[] = "not_an_event";
    struct letter_head head = {.first_ms = now_ms,
                               .last_ms = now_ms,
                               .id = rebuild->next_dead,
                               .publisher_size = sizeof(publisher) - 1,
                               .reason_size = sizeof(reason) - 1};
    size_t prefix = letter_prefix_size(&head);
    size_t size = prefix + event->record->size;
    char *letter = malloc(size);
    int rc;

    if (!letter)
        return ENOMEM;
    memcpy(letter + sizeof(head), publisher, head.publisher_size);
    memcpy(letter + sizeof(head) + head.publisher_size, reason, head.reason_size);
    memcpy(letter + prefix, event->record, event->record->size);
    letter_seal(letter, head);
    rc = put_number(rebuild, STORE_DEAD, rebuild->next_dead++, letter, size);
    rebuild->report->dead++;
    free(letter);
    return rc;
}

static int flush_chunk(struct rebuild *rebuild)
{
    struct chunk_buffer *chunk = &rebuild->chunk;
    int rc = 0;

    if (chunk->size > 0)
        rc = put_number(rebuild, STORE_EVENTS, chunk->last, chunk->bytes, chunk->size);
    chunk->size = 0;
    return rc;
}

static int put_event(struct rebuild *rebuild, const struct event_record *record)
{
    struct chunk_buffer *chunk = &rebuild->chunk;
    int rc = 0;

    if (chunk->size + record->size > sizeof(chunk->bytes) || chunk->age_s != record->journal_age)
        rc = flush_chunk(rebuild);
    if (rc == 0 && record->size > sizeof(chunk->bytes))
        return put_number(rebuild, STORE_EVENTS, record->seq, record, record->size);
    memcpy(chunk->bytes + chunk->size, record, record->size);
    chunk->size += record->size;
    chunk->last = record->seq;
    chunk->age_s = record->journal_age;
    return rc;
}

static int write_event(struct rebuild *rebuild, const struct plan_event *planned)
{
    struct event *event;
    int rc = read_value(rebuild, planned->offset, planned->size);

    if (rc != 0)
        return rc;
    event = event_from_record(rebuild->value, planned->size, NULL);
    if (!event)
        return ENOMEM;
    if (event_has(event, EVENT_IS_OPAQUE)) {
        rc = write_opaque(rebuild, event, planned->received_ms);
        event_unref(event);
        return rc;
    }
    if (planned->is_extra)
        event_seal(event, rebuild->next_seq++, rebuild->plan->state.age_s);
    rc = put_event(rebuild, event->record);
    if (rc == 0)
        rc = mark_event(rebuild, event);
    rebuild->report->events++;
    rebuild->report->to_publish += event->record->seq > rebuild->plan->settled;
    event_unref(event);
    return rc;
}

static int write_letter(struct rebuild *rebuild, const struct plan_letter *planned)
{
    struct parked_key key;
    struct letter_view view;
    int rc = read_value(rebuild, planned->offset, planned->size);

    if (rc != 0)
        return rc;
    if (planned->id) {
        rebuild->report->dead++;
        return put_number(rebuild, STORE_DEAD, planned->id, rebuild->value, planned->size);
    }
    if (!letter_view(rebuild->value, planned->size, &view))
        return EIO; /* the file has changed since */
    key = parked_key_of(&view);
    rebuild->report->parked++;
    return put(rebuild, STORE_PARKED, (MDB_val){key.size, key.bytes}, rebuild->value,
               planned->size);
}

static int write_state(struct rebuild *rebuild)
{
    const struct plan *plan = rebuild->plan;
    struct journal_state state = plan->state;
    int rc = 0;

    state.next_seq = rebuild->next_seq;
    state.next_dead = rebuild->next_dead;
    state.next_batch = rebuild->next_batch;
    state.commits++;
    state_seal(&state);
    for (size_t i = 0; i < plan->cursor_count && rc == 0; i++)
        rc = put_name(rebuild, STORE_CURSORS, plan->cursors[i].publisher, &plan->cursors[i],
                      sizeof(plan->cursors[i]));
    if (rc == 0 && plan->has_secret)
        rc = put_name(rebuild, STORE_META, "secret", &plan->secret, sizeof(plan->secret));
    return rc ? rc : put_name(rebuild, STORE_META, "state", &state, sizeof(state));
}

static int write_all(struct rebuild *rebuild)
{
    const struct plan *plan = rebuild->plan;
    int rc = write_marks(rebuild);

    for (size_t i = 0; i < plan->event_count && rc == 0; i++)
        rc = write_event(rebuild, &plan->events[i]);
    if (rc == 0)
        rc = flush_chunk(rebuild);
    for (size_t i = 0; i < plan->letter_count && rc == 0; i++)
        rc = write_letter(rebuild, &plan->letters[i]);
    if (rc == 0)
        rc = flush_marks(rebuild);
    return rc ? rc : write_state(rebuild);
}

/* ---- the environment ---- */

static int open_dbs(struct rebuild *rebuild)
{
    int rc = begin(rebuild);

    for (int i = 0; i < STORE_DB_COUNT && rc == 0; i++)
        rc = mdb_dbi_open(rebuild->txn, store_db_names[i],
                          MDB_CREATE |
                              (store_has_integer_keys((enum store_db)i) ? MDB_INTEGERKEY : 0),
                          &rebuild->db[i]);
    return rc;
}

static int open_env(struct rebuild *rebuild, const char *path)
{
    uint64_t size = rebuild->plan->image->source->size * 2 + (UINT64_C(256) << 20);
    int rc = mdb_env_create(&rebuild->env);

    if (rc == 0)
        rc = mdb_env_set_mapsize(rebuild->env, size / 4096 * 4096);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(rebuild->env, STORE_DB_COUNT);
    /* Nobody relies on the file before it is whole: one sync is enough. */
    if (rc == 0)
        rc = mdb_env_open(rebuild->env, path, MDB_NOSYNC | MDB_NOTLS, 0600);
    return rc;
}

int plan_write(const struct plan *plan, const char *path, struct salvage_report *report,
               struct error *err)
{
    struct rebuild *rebuild = calloc(1, sizeof(*rebuild));
    int rc;

    if (!rebuild)
        return error_set(err, ERROR_FATAL, "out of memory");
    rebuild->plan = plan;
    rebuild->report = report;
    rebuild->next_seq = plan->state.next_seq;
    rebuild->next_dead = plan->state.next_dead;
    rebuild->next_batch = 1;
    rc = open_env(rebuild, path);
    if (rc == 0)
        rc = open_dbs(rebuild);
    if (rc == 0)
        rc = write_all(rebuild);
    if (rc == 0) {
        rc = mdb_txn_commit(rebuild->txn);
        rebuild->txn = NULL;
    }
    if (rc == 0)
        rc = mdb_env_sync(rebuild->env, 1);
    mdb_txn_abort(rebuild->txn);
    mdb_env_close(rebuild->env);
    free(rebuild->value);
    free(rebuild);
    return rc == 0 ? 0
                   : error_set(err, rc == ENOMEM ? ERROR_FATAL : ERROR_TRANSIENT,
                               "a new journal cannot be written: %s", mdb_strerror(rc));
}
