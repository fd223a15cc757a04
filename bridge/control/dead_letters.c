#include "bridge/control/dead_letters.h"

#include <inttypes.h>
#include <semaphore.h>
#include <stdlib.h>

#include <openssl/evp.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/base/mailbox.h"
#include "bridge/dispatcher/saver.h"
#include "bridge/journal/journal.h"
#include "bridge/runtime/metrics.h"
#include "schemas/event.h"

enum {
    BATCH = 100,
    BATCH_BYTES = 16 * 1024 * 1024,
    SEARCH_STEPS = 64, /* calls of journal_read_dead() for one page */
};

static void append_member(struct buf *json, const char *name, struct text value)
{
    if (value.size == 0)
        return;
    buf_printf(json, ",\"%s\":", name);
    buf_append_json_string(json, value);
}

/* Without the closing brace. */
static void append_letter(struct buf *json, const struct letter *letter)
{
    static const struct {
        const char *name;
        enum event_field field;
    } members[] = {{"account", EVENT_ACCOUNT},         {"event_id", EVENT_ID},
                   {"object_type", EVENT_OBJECT_TYPE}, {"action", EVENT_ACTION},
                   {"lead_id", EVENT_LEAD_ID},         {"object_id", EVENT_OBJECT_ID}};
    const struct event *event = letter->event;
    bool is_opaque = event_has(event, EVENT_IS_OPAQUE);

    buf_printf(json, "{\"id\":%" PRIu64, letter->id);
    append_member(json, "publisher", text_of(letter->publisher));
    append_member(json, "topic", text_of(letter->topic));
    append_member(json, "reason", text_of(letter->reason));
    buf_append_string(json, ",\"received\":\"");
    buf_append_utc(json, event->record->received_ms);
    buf_append_string(json, "\",\"first\":\"");
    buf_append_utc(json, letter->first_ms);
    buf_append_string(json, "\",\"last\":\"");
    buf_append_utc(json, letter->last_ms);
    buf_printf(json, "\",\"is_event\":%s", is_opaque ? "false" : "true");
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
        append_member(json, members[i].name, event_text(event, members[i].field));
    buf_printf(json, ",\"body_bytes\":%zu", event_text(event, EVENT_BODY).size);
}

/* Reads letters; the owner of `letters` calls free_letters() and free(). */
static int read_letters(struct journal_reader *reader, const struct letter_query *query,
                        struct letter **out_letters, uint64_t *out_after, struct error *err)
{
    struct letter *letters = alloc_zeroed(query->max_count, sizeof(*letters));
    int count = journal_read_dead(reader, query, letters, out_after, err);

    if (count < 0)
        free(letters);
    else
        *out_letters = letters;
    return count;
}

static void free_letters(struct letter *letters, int count)
{
    for (int i = 0; i < count; i++)
        event_unref(letters[i].event);
    free(letters);
}

int dead_letters_render(struct journal_reader *reader, const struct letter_query *query,
                        struct buf *json, struct error *err)
{
    struct letter_query step = *query;
    size_t left = query->max_count;
    int steps = 0;

    buf_append_string(json, "{\"dead_letters\":[");
    do {
        struct letter *letters;
        int count;

        step.max_count = left < BATCH ? left : BATCH;
        step.max_bytes = BATCH_BYTES;
        count = read_letters(reader, &step, &letters, &step.after_id, err);
        if (count < 0)
            return -1;
        for (int i = 0; i < count; i++) {
            if (left-- < query->max_count)
                buf_append_string(json, ",\n ");
            append_letter(json, &letters[i]);
            buf_append_char(json, '}');
        }
        free_letters(letters, count);
    } while (left > 0 && step.after_id != UINT64_MAX && ++steps < SEARCH_STEPS);
    buf_append_string(json, "],\"next\":");
    if (step.after_id == UINT64_MAX)
        buf_append_string(json, "null}");
    else
        buf_printf(json, "%" PRIu64 "}", step.after_id);
    return 0;
}

/* As a string; what is not UTF-8 cannot be one and comes in base64. */
static void append_body(struct buf *json, struct text body)
{
    if (text_is_utf8(body)) {
        buf_append_string(json, ",\"body\":");
        buf_append_json_string(json, body);
        return;
    }
    buf_append_string(json, ",\"body_base64\":\"");
    if (buf_reserve(json, body.size / 3 * 4 + 4))
        json->size += (size_t)EVP_EncodeBlock((unsigned char *)json->data + json->size,
                                              (const unsigned char *)body.data, (int)body.size);
    buf_append_char(json, '"');
}

/* Returns as dead_letters_render_one(); the letter's event is owned. */
static int find_letter(struct journal_reader *reader, uint64_t id, struct letter *out_letter,
                       struct error *err)
{
    struct letter_query query = {.after_id = id - 1, .max_count = 1};
    uint64_t after;
    int count = id == 0 ? 0 : journal_read_dead(reader, &query, out_letter, &after, err);

    if (count != 1 || out_letter->id == id)
        return count;
    event_unref(out_letter->event);
    return 0;
}

int dead_letters_render_one(struct journal_reader *reader, uint64_t id, struct buf *json,
                            struct error *err)
{
    struct letter *letter = alloc_zeroed(1, sizeof(*letter));
    int count = find_letter(reader, id, letter, err);

    if (count == 1) {
        append_letter(json, letter);
        append_body(json, event_text(letter->event, EVENT_BODY));
        buf_append_char(json, '}');
        event_unref(letter->event);
    }
    free(letter);
    return count;
}

/* ---- dropping ---- */

struct dropping {
    struct note note;
    sem_t *done;
};

static void dropped(struct note *note)
{
    sem_post(container_of(note, struct dropping, note)->done);
}

static void wait_for(sem_t *done)
{
    while (sem_wait(done) < 0)
        ; /* interrupted */
}

/* Drops all of them in as few commits as it takes. */
static int drop_all(struct journal *journal, const struct letter *letters, int count,
                    struct metrics *metrics, uint64_t *out_dropped, struct error *err)
{
    struct dropping *drops = alloc_zeroed((size_t)count, sizeof(*drops));
    int failed = 0;
    sem_t done;

    sem_init(&done, 0, 0);
    for (int i = 0; i < count; i++) {
        drops[i].done = &done;
        drops[i].note = (struct note){.kind = NOTE_DROP, .letter = letters[i].id, .done = dropped};
        journal_note(journal, &drops[i].note);
    }
    for (int i = 0; i < count; i++)
        wait_for(&done);
    for (int i = 0; i < count; i++) {
        failed += drops[i].note.result == NOTE_FAILED;
        if (drops[i].note.result != NOTE_STORED)
            continue;
        (*out_dropped)++;
        if (metrics)
            metric_add(saver_dead_letters(metrics, letters[i].publisher), -1);
        log_info("dead_letter.dropped", log_i64("id", (int64_t)letters[i].id),
                 log_str("publisher", letters[i].publisher), log_str("topic", letters[i].topic),
                 log_str("reason", letters[i].reason));
    }
    sem_destroy(&done);
    free(drops);
    return failed ? error_set(err, ERROR_TRANSIENT, "the journal cannot write to its disk") : 0;
}

int dead_letters_drop(struct journal *journal, struct journal_reader *reader,
                      const struct letter_query *query, struct metrics *metrics,
                      uint64_t *out_dropped, struct error *err)
{
    struct letter_query step = *query;
    struct journal_numbers numbers;
    int rc = 0;

    *out_dropped = 0;
    journal_numbers(journal, &numbers); /* what is buried meanwhile stays */
    step.max_count = BATCH;
    step.max_bytes = BATCH_BYTES;
    while (rc == 0 && step.after_id < numbers.dead_tail) {
        struct letter *letters;
        int count = read_letters(reader, &step, &letters, &step.after_id, err);
        int wanted = 0;

        if (count < 0)
            return -1;
        while (wanted < count && letters[wanted].id <= numbers.dead_tail)
            wanted++;
        rc = drop_all(journal, letters, wanted, metrics, out_dropped, err);
        free_letters(letters, count);
    }
    return rc;
}

int dead_letters_drop_one(struct journal *journal, struct journal_reader *reader, uint64_t id,
                          struct metrics *metrics, struct error *err)
{
    struct letter *letter = alloc_zeroed(1, sizeof(*letter));
    uint64_t count = 0;
    int rc = find_letter(reader, id, letter, err);

    if (rc == 1) {
        rc = drop_all(journal, letter, 1, metrics, &count, err);
        event_unref(letter->event);
    }
    free(letter);
    return rc < 0 ? -1 : (int)count;
}
