#include "bridge/daemon/status.h"

#include <stdint.h>
#include <string.h>

#include "bridge/base/buf.h"
#include "bridge/base/log.h"
#include "bridge/base/text.h"
#include "bridge/config/topic_map.h"
#include "bridge/dispatcher/dispatcher.h"
#include "bridge/journal/journal.h"
#include "bridge/runtime/metrics.h"
#include "bridge/subscriptions/subscriptions.h"

static const char *const publisher_names[PUBLISHER_COUNT] = {"kafka", "mqtt"};

/* ---- whether events are accepted ---- */

/* NULL: they are. */
static const char *trouble(const struct status *status)
{
    struct journal_numbers numbers;

    if (!status->journal)
        return dispatcher_trouble(status->dispatcher);
    journal_numbers(status->journal, &numbers);
    return numbers.trouble;
}

bool status_is_ready(void *context)
{
    return !trouble(context);
}

/* ---- what is ready ---- */

static void append_journal(const struct status *status, struct buf *json)
{
    struct journal_numbers numbers;

    if (!status->journal)
        return;
    journal_numbers(status->journal, &numbers);
    buf_printf(json, ",\"journal\":{\"bytes\":%llu,\"max_bytes\":%llu,\"dead_letters\":%llu}",
               (unsigned long long)numbers.bytes, (unsigned long long)numbers.max_bytes,
               (unsigned long long)numbers.dead_count);
}

static void append_publishers(const struct status *status, struct buf *json)
{
    const char *comma = "";

    buf_append_string(json, ",\"publishers\":{");
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        bool is_removed = dispatcher_is_removed(status->dispatcher, p);

        if (!is_removed && !dispatcher_is_configured(status->dispatcher, p))
            continue;
        buf_printf(json, "%s\"%s\":\"%s\"", comma, publisher_names[p],
                   is_removed                                        ? "removed"
                   : dispatcher_is_down(status->dispatcher, p, true) ? "down"
                                                                     : "up");
        comma = ",";
    }
    for (size_t i = 0; i < status->removed_count; i++) {
        buf_append_string(json, comma);
        buf_append_json_string(json, text_of(status->removed[i]));
        buf_append_string(json, ":\"removed\"");
        comma = ",";
    }
    buf_append_char(json, '}');
}

bool status_append_readiness(void *context, struct buf *json)
{
    const struct status *status = context;
    const char *reason = trouble(status);

    buf_printf(json, "{\"status\":\"%s\"", reason ? "not_ready" : "ready");
    if (reason) {
        buf_append_string(json, ",\"reason\":");
        buf_append_json_string(json, text_of(reason));
    }
    buf_printf(json, ",\"acknowledge\":\"%s\"", status->journal ? "journal" : "broker");
    append_journal(status, json);
    append_publishers(status, json);
    subscriptions_append_readiness(status->subscriptions, json);
    buf_append_char(json, '}');
    return !reason;
}

/* ---- metrics ---- */

static void set_gauge(const struct status *status, const char *name, const char *help,
                      uint64_t value)
{
    metric_set(metrics_get(status->metrics, METRIC_GAUGE, name, help, ""), (int64_t)value);
}

static void collect(void *context)
{
    const struct status *status = context;
    struct journal_numbers numbers;

    journal_numbers(status->journal, &numbers);
    set_gauge(status, "journal_bytes", "Space in use in the journal.", numbers.bytes);
    set_gauge(status, "journal_max_bytes", "Space that the journal may use.", numbers.max_bytes);
    set_gauge(status, "dedupe_window_seconds", "How far back duplicates are recognised.",
              (uint64_t)numbers.dedupe_window_s);
    set_gauge(status, "journal_dead_letters", "Dead letters kept in the journal.",
              numbers.dead_count);
    set_gauge(status, "dead_letters_bytes", "Space in use by dead letters.", numbers.dead_bytes);
    set_gauge(status, "dead_letters_max_bytes",
              "Space that dead letters may use: with more, their publisher stops.",
              numbers.dead_max_bytes);
    metric_set(metrics_get(status->metrics, METRIC_COUNTER, "event_conflicts_total",
                           "Events with the id and date of another one, but other bytes.", ""),
               (int64_t)numbers.conflicts);
    metric_set(metrics_get(status->metrics, METRIC_COUNTER, "event_respellings_total",
                           "Duplicates, by webhook and from the Event Log, in two spellings.", ""),
               (int64_t)numbers.respelled);
    metric_set(metrics_get(status->metrics, METRIC_COUNTER, "event_trusted_duplicates_total",
                           "Duplicates from the Event Log by id and date alone: the first copy is "
                           "deleted.",
                           ""),
               (int64_t)numbers.trusted);
    metric_set(metrics_get(status->metrics, METRIC_COUNTER, "journal_damaged_records_total",
                           "Records of the journal that were passed over because they are damaged.",
                           ""),
               (int64_t)numbers.damaged);
}

void status_add_metrics(struct status *status)
{
    metrics_on_scrape(status->metrics, collect, status);
}

/* ---- publishers that are gone ---- */

static void visit_cursor(void *context, const char *publisher, uint64_t seq)
{
    struct status *status = context;
    bool is_known = false;

    (void)seq;
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        if (strcmp(publisher, publisher_names[p]) != 0)
            continue;
        if (dispatcher_is_configured(status->dispatcher, p))
            return;
        is_known = true;
    }
    if (!is_known && status->removed_count < STATUS_MAX_REMOVED)
        strncpy(status->removed[status->removed_count++], publisher,
                sizeof(status->removed[0]) - 1);
    log_warn("publisher.removed", log_str("publisher", publisher),
             log_str("action", "it is not configured any more; its events are kept for it"));
}

void status_note_removed(struct status *status)
{
    journal_visit_cursors(status->journal, visit_cursor, status);
}
