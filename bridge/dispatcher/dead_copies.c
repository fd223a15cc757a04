#include "bridge/dispatcher/dead_copies.h"

#include <stdlib.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/dispatcher/dead_fields.h"
#include "schemas/event.h"

enum { BATCH = 16, BATCH_BYTES = 4 * 1024 * 1024, BACK_OFF_MS = 10000 };

struct dead_copies {
    struct dead_copies_options options;
    char *topic;     /* NULL: none */
    uint64_t copied; /* everything up to this number is copied, or was refused for good */
    struct letter letters[BATCH]; /* those on their way */
    size_t count;
    size_t on_the_way;
    bool has_failed;
    bool is_saving;
    int64_t next_try_ms; /* monotonic */
    struct errand cursor_errand;
};

struct dead_copies *dead_copies_open(const struct dead_copies_options *options)
{
    struct dead_copies *copies = alloc_zeroed(1, sizeof(*copies));

    copies->options = *options;
    copies->copied = options->cursor;
    return copies;
}

void dead_copies_close(struct dead_copies *copies)
{
    if (!copies)
        return;
    free(copies->topic);
    free(copies);
}

void dead_copies_set_topic(struct dead_copies *copies, const char *topic)
{
    free(copies->topic);
    copies->topic = topic ? alloc_string(topic) : NULL;
}

static void cursor_saved(struct errand *errand)
{
    struct dead_copies *copies = container_of(errand, struct dead_copies, cursor_errand);

    copies->is_saving = false;
}

static void save_cursor(struct dead_copies *copies)
{
    copies->is_saving = true;
    copies->cursor_errand.finished = cursor_saved;
    copies->cursor_errand.note =
        (struct note){.kind = NOTE_CURSOR, .publisher = DEAD_COPIES_CURSOR, .seq = copies->copied};
    errand_send(&copies->cursor_errand, copies->options.journal, copies->options.errands);
}

static void finish_batch(struct dead_copies *copies)
{
    if (copies->has_failed) {
        copies->next_try_ms = clock_monotonic_ms(copies->options.clock) + BACK_OFF_MS;
        copies->has_failed = false;
        return;
    }
    copies->copied = copies->letters[copies->count - 1].id;
    save_cursor(copies);
}

static void settled(struct outgoing *outgoing)
{
    struct dead_copies *copies = outgoing->owner;
    enum settled_as as = outgoing->record.outcome.as;

    if (as == SETTLED_RETRY) {
        lane_resend(copies->options.lane, outgoing);
        return;
    }
    if (as == SETTLED_DESTINATION_FAULT) {
        if (!copies->has_failed)
            log_warn("dead_letters.copy_refused", log_str("topic", outgoing->record.topic),
                     log_str("reason", outgoing->record.outcome.reason),
                     log_str("action", "the dead letters are kept in the journal; tried again"));
        copies->has_failed = true;
    } else if (as == SETTLED_RECORD_FAULT) {
        log_error("dead_letters.not_copied", log_str("topic", outgoing->record.topic),
                  log_str("reason", outgoing->record.outcome.reason),
                  log_i64("dead_letter", (int64_t)outgoing->seq),
                  log_str("action", "it is kept in the journal"));
    }
    outgoing_free(outgoing);
    if (--copies->on_the_way == 0)
        finish_batch(copies);
}

static void send_copy(struct dead_copies *copies, struct letter *letter)
{
    struct outgoing *outgoing;
    struct dead_fields fields;

    dead_fields_find(copies->options.router, letter->event, letter->publisher, letter->topic,
                     &fields);
    outgoing = lane_prepare_dead_copy(copies->options.lane, letter->event,
                                      &(struct dead_copy){.topic = copies->topic,
                                                          .reason = letter->reason,
                                                          .publisher = letter->publisher,
                                                          .dead_topic = letter->topic,
                                                          .policies = fields.policies,
                                                          .policy_count = fields.count});
    dead_fields_release(&fields);
    event_unref(letter->event);
    letter->event = NULL;
    outgoing->owner = copies;
    outgoing->settled = settled;
    outgoing->seq = letter->id;
    copies->on_the_way++;
    lane_send(copies->options.lane, outgoing);
}

void dead_copies_run(struct dead_copies *copies)
{
    struct letter_query query = {
        .after_id = copies->copied, .max_count = BATCH, .max_bytes = BATCH_BYTES};
    struct journal_numbers numbers;
    struct error err;
    uint64_t after;
    int count;

    if (!copies->topic || copies->on_the_way > 0 || copies->is_saving ||
        lane_is_busy(copies->options.lane) ||
        clock_monotonic_ms(copies->options.clock) < copies->next_try_ms)
        return;
    journal_numbers(copies->options.journal, &numbers);
    if (numbers.dead_tail <= copies->copied)
        return;
    count = journal_read_dead(copies->options.reader, &query, copies->letters, &after, &err);
    if (count < 0) {
        log_error("dead_letters.unreadable", log_str("error", err.message));
        copies->next_try_ms = clock_monotonic_ms(copies->options.clock) + BACK_OFF_MS;
        return;
    }
    if (count == 0) { /* those in between left the store before they were copied */
        copies->copied = after < numbers.dead_tail ? after : numbers.dead_tail;
        save_cursor(copies);
        return;
    }
    copies->count = (size_t)count;
    for (size_t i = 0; i < copies->count; i++)
        send_copy(copies, &copies->letters[i]);
}
