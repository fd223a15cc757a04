#include "bridge/dispatcher/saver.h"

#include <stddef.h>

#include "bridge/base/clock.h"
#include "bridge/base/log.h"
#include "bridge/runtime/metrics.h"

enum { RETRY_MS = 1000 };

struct metric *saver_dead_letters(struct metrics *metrics, const char *publisher)
{
    char labels[128] = "";

    metrics_label(labels, sizeof(labels), "publisher", publisher);
    return metrics_get(metrics, METRIC_GAUGE, "dead_letters", "Dead letters that are kept.",
                       labels);
}

struct metric *saver_dead_total(struct metrics *metrics, const char *publisher, const char *reason)
{
    char labels[160] = "";

    metrics_label(labels, sizeof(labels), "publisher", publisher);
    metrics_label(labels, sizeof(labels), "reason", reason);
    return metrics_get(metrics, METRIC_COUNTER, "events_dead_total",
                       "Records that became dead letters.", labels);
}

static void count_dead(const struct saver *saver, const struct note *note)
{
    metric_add(saver_dead_total(saver->metrics, saver->publisher, note->reason), 1);
    metric_add(saver_dead_letters(saver->metrics, saver->publisher), 1);
    log_warn("record.dead_lettered", log_str("publisher", saver->publisher),
             log_str("topic", note->topic), log_str("reason", note->reason),
             log_i64("seq", (int64_t)note->seq));
}

/* A store that is full leaves no gap to wait for: it may be the lists that fill it. */
static void count_missing(struct saver *saver, struct outgoing *outgoing, const struct note *note)
{
    bool is_missing = note->kind == NOTE_PARK && note->result == NOTE_FAILED;

    saver->missing += (size_t)is_missing;
    saver->missing -= (size_t)outgoing->is_missing;
    outgoing->is_missing = is_missing;
}

static void finished(struct errand *errand)
{
    struct outgoing *outgoing = container_of(errand, struct outgoing, errand);
    struct saver *saver = outgoing->saver;

    count_missing(saver, outgoing, &errand->note);
    if (errand->note.result != NOTE_STORED) {
        if (!saver->waiting)
            log_error("record.not_stored", log_str("publisher", saver->publisher),
                      log_str("topic", errand->note.topic),
                      log_str("error", errand->note.result == NOTE_FULL
                                           ? "the store for dead letters and parked records is full"
                                           : "the journal cannot store it now"),
                      log_str("action", "the publisher waits and tries again"));
        outgoing->next = saver->waiting;
        saver->waiting = outgoing;
        saver->next_try_ms = clock_monotonic_ms(saver->clock) + RETRY_MS;
        return;
    }
    if (errand->note.kind == NOTE_BURY)
        count_dead(saver, &errand->note);
    outgoing->saved(outgoing);
}

void saver_save(struct saver *saver, struct outgoing *outgoing, enum note_kind kind,
                const char *reason, bool was_parked, void (*saved)(struct outgoing *outgoing))
{
    outgoing->saver = saver;
    outgoing->saved = saved;
    outgoing->errand.finished = finished;
    outgoing->errand.note = (struct note){
        .kind = kind,
        .publisher = saver->publisher,
        .topic = outgoing->record.topic,
        .reason = reason,
        .event = outgoing->record.event,
        .seq = outgoing->seq,
        .nth = outgoing->nth,
        .was_parked = was_parked,
    };
    errand_send(&outgoing->errand, saver->journal, saver->return_to);
}

void saver_run(struct saver *saver)
{
    struct outgoing *outgoing = saver->waiting;

    if (!outgoing || clock_monotonic_ms(saver->clock) < saver->next_try_ms)
        return;
    saver->waiting = NULL;
    while (outgoing) {
        struct outgoing *next = outgoing->next;

        errand_send(&outgoing->errand, saver->journal, saver->return_to);
        outgoing = next;
    }
}
