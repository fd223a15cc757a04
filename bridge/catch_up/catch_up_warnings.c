#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/catch_up/catch_up_internal.h"
#include "bridge/config/config.h"
#include "bridge/config/config_values.h"
#include "bridge/config/topic_report.h"
#include "bridge/dispatcher/dispatcher.h"
#include "publishers/kafka_admin.h"

#define DAY_MS (INT64_C(24) * 3600 * 1000)

enum {
    ASK_MS = 3000, /* for Kafka to say how long topics keep what they are given */
    NAMED = 10,    /* topics that a warning names */
    REASON_SIZE = 480,
};

/* A topic that can get what a request asks for. */
struct concerned {
    char *name;
    bool has_event_time; /* by some entry, records carry the date of their event */
};

struct topics {
    struct concerned *topics;
    struct kafka_topic_keeping *keeping; /* of each */
    size_t count;
};

/* ---- the topics ---- */

static void add_topic(struct topics *all, const struct topic_report_destination *destination)
{
    size_t i = 0;

    while (i < all->count && strcmp(all->topics[i].name, destination->topic) != 0)
        i++;
    if (i == all->count) {
        struct concerned *grown = alloc_zeroed(all->count + 1, sizeof(*grown));

        if (all->count)
            memcpy(grown, all->topics, all->count * sizeof(*grown));
        free(all->topics);
        all->topics = grown;
        all->topics[all->count++].name = alloc_string(destination->topic);
    }
    if (destination->target->timestamp_is_event)
        all->topics[i].has_event_time = true;
}

/* An empty account is any. */
static bool is_concerned(const struct topic_report_row *row, const struct catch_up_task *task,
                         const char *account)
{
    return (!row->account || !account[0] || strcmp(row->account, account) == 0) &&
           catch_up_task_selects_pair(task, text_of(row->object_type), text_of(row->action));
}

static struct topics find_topics(const struct config *config, const struct catch_up_task *task,
                                 const char *account)
{
    struct topic_report *report = topic_report_make(config);
    struct topics all = {0};

    for (size_t i = 0; i < report->count; i++) {
        const struct topic_report_row *row = &report->rows[i];

        for (size_t d = 0; d < row->count && is_concerned(row, task, account); d++) {
            if (row->destinations[d].publisher == PUBLISHER_KAFKA && row->destinations[d].topic)
                add_topic(&all, &row->destinations[d]);
        }
    }
    topic_report_free(report);
    all.keeping = alloc_zeroed(all.count + 1, sizeof(*all.keeping));
    for (size_t i = 0; i < all.count; i++)
        all.keeping[i].name = all.topics[i].name;
    return all;
}

static void release_topics(struct topics *all)
{
    for (size_t i = 0; i < all->count; i++)
        free(all->topics[i].name);
    free(all->topics);
    free(all->keeping);
}

/* ---- what they keep ---- */

/* What was said so far, and of whom. */
struct warnings {
    struct buf *json; /* the inside of an array */
    const char *account;
    int64_t age_ms; /* of the oldest event that may come */
};

static void warn(struct warnings *warnings, const char *warning)
{
    buf_append_comma(warnings->json);
    buf_append_json_string(warnings->json, text_of(warning));
    log_warn("catch_up.warning", log_str("account", warnings->account),
             log_str("warning", warning));
}

/* Two figures are enough. */
static void show_age(int64_t age_ms, char shown[CONFIG_SHOWN_SIZE])
{
    static const int64_t units[] = {DAY_MS, DAY_MS / 24, 60 * 1000, 1000};
    size_t i = 0;

    while (i < 3 && age_ms < 10 * units[i])
        i++;
    config_value_show_duration(age_ms / units[i] * units[i], shown);
}

/* By which of its two dates Kafka counts how old a record is. */
static bool counts_from_event(const struct topics *all, size_t i)
{
    return all->topics[i].has_event_time && !all->keeping[i].is_stamped_by_broker;
}

static bool keeps_less(const struct topics *all, size_t i, int64_t age_ms)
{
    return all->keeping[i].keeping == KAFKA_KEEPS_FOR && all->keeping[i].retention_ms < age_ms;
}

/* Whether the topic is one of a warning that an earlier one begins. */
static bool is_like(const struct topics *all, size_t i, size_t first)
{
    return all->keeping[i].keeping == all->keeping[first].keeping &&
           all->keeping[i].retention_ms == all->keeping[first].retention_ms &&
           counts_from_event(all, i) == counts_from_event(all, first);
}

static bool is_first_of_its_kind(const struct topics *all, size_t i)
{
    size_t first = 0;

    while (!is_like(all, i, first))
        first++;
    return first == i;
}

static void append_names(const struct topics *all, size_t first, struct buf *words)
{
    size_t found = 0;

    for (size_t i = first; i < all->count; i++) {
        if (is_like(all, i, first) && found++ < NAMED)
            buf_printf(words, "%s%s", found > 1 ? ", " : "", all->topics[i].name);
    }
    if (found > NAMED)
        buf_printf(words, " and %zu more", found - NAMED);
}

static void warn_of_retention(const struct topics *all, size_t first, struct warnings *warnings)
{
    char kept[CONFIG_SHOWN_SIZE];
    char age[CONFIG_SHOWN_SIZE];
    struct buf words = {0};

    config_value_show_duration(all->keeping[first].retention_ms, kept);
    show_age(warnings->age_ms, age);
    buf_printf(&words, "Kafka keeps records for %s (retention.ms) and this begins %s ago: ", kept,
               age);
    if (counts_from_event(all, first))
        buf_printf(&words,
                   "with timestamp: event, records are as old as their events, and it deletes at "
                   "once those that are older than %s. Raise retention.ms before, or write "
                   "timestamp: received. Topics: ",
                   kept);
    else
        buf_printf(&words,
                   "what is published now is deleted in %s: have it read by then, or raise "
                   "retention.ms. Topics: ",
                   kept);
    append_names(all, first, &words);
    warn(warnings, buf_text(&words).data);
    buf_release(&words);
}

static void warn_of_unknown(const struct topics *all, const char *reason, struct warnings *warnings)
{
    struct buf words = {0};
    bool has_event_time = false;

    for (size_t i = 0; i < all->count; i++)
        has_event_time = has_event_time || all->topics[i].has_event_time;
    buf_printf(&words, "How long Kafka keeps records (retention.ms) is not known: %s.", reason);
    if (has_event_time)
        buf_append_string(&words, " Entries with timestamp: event write records as old as their "
                                  "events: Kafka deletes at once what is older than it keeps.");
    warn(warnings, buf_text(&words).data);
    buf_release(&words);
}

/* One for all topics of which it is not known. */
static void warn_of_silence(const struct topics *all, struct warnings *warnings)
{
    char reason[REASON_SIZE];
    size_t first = 0;

    while (first < all->count && all->keeping[first].keeping != KAFKA_KEEPING_UNKNOWN)
        first++;
    if (first == all->count)
        return;
    snprintf(reason, sizeof(reason),
             "of the topic %.200s it says \"%s\" (it takes the right DescribeConfigs)",
             all->topics[first].name, all->keeping[first].detail);
    warn_of_unknown(all, reason, warnings);
}

static void warn_of_topics(const struct catch_up *self, const struct catch_up_task *task,
                           struct warnings *warnings)
{
    const struct config *config = self->config;
    struct topics all = find_topics(config, task, warnings->account);
    struct error err = {0};

    if (all.count > 0 && dispatcher_is_down(self->options.dispatcher, PUBLISHER_KAFKA, false)) {
        warn_of_unknown(&all, "the topics of Kafka cannot be looked at: no broker answers",
                        warnings);
    } else if (all.count > 0 && kafka_admin_keeping(&config->kafka_options, all.keeping, all.count,
                                                    ASK_MS, &self->is_stopping, &err) < 0) {
        warn_of_unknown(&all, err.message, warnings);
    } else {
        for (size_t i = 0; i < all.count; i++) {
            if (keeps_less(&all, i, warnings->age_ms) && is_first_of_its_kind(&all, i))
                warn_of_retention(&all, i, warnings);
        }
        warn_of_silence(&all, warnings);
    }
    release_topics(&all);
}

/* ---- all of them ---- */

void catch_up_warn(const struct catch_up *self, const struct catch_up_task *task,
                   const char *account, bool was_too_old, struct buf *json)
{
    struct warnings warnings = {json, account, clock_wall_ms(self->options.clock) - task->since_ms};

    if (was_too_old)
        warn(&warnings, "Close keeps 30 days: it begins there.");
    if (warnings.age_ms > self->config->journal.dedupe_window_ms)
        warn(&warnings, "It begins before journal.dedupe_window: what was published before that "
                        "is published again. object_type and action narrow it.");
    warn_of_topics(self, task, &warnings);
    if (warnings.age_ms > DAY_MS)
        warn(&warnings, "The Event Log holds what changed, not all that there is: records that "
                        "nobody touched in this time do not appear. For a full copy, export them "
                        "from Close's REST API.");
}
