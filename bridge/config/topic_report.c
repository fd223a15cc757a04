#include "bridge/config/topic_report.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "bridge/config/config.h"
#include "bridge/config/subscribed_pairs.h"
#include "publishers/topic_template.h"
#include "schemas/catalog.h"
#include "schemas/event.h"
#include "schemas/field_policy.h"
#include "schemas/filter.h"

static void release_row(struct topic_report_row *row)
{
    for (size_t i = 0; i < row->count; i++) {
        free(row->destinations[i].topic);
        free(row->destinations[i].refusal);
    }
    free(row->destinations);
    free(row->extra_filter);
}

void topic_report_free(struct topic_report *report)
{
    if (!report)
        return;
    for (size_t i = 0; i < report->count; i++)
        release_row(&report->rows[i]);
    free(report->rows);
    free(report);
}

/* ---- one row ---- */

/* An event of the pair as far as the pair knows it. */
static struct event *sample_event(const struct topic_report_row *row)
{
    struct event_origin origin = {.account = text_of(row->account)};
    struct event *event = event_new(&origin, text_of("{}"), 0);

    if (!event || !event_add_field(event, EVENT_OBJECT_TYPE, text_of(row->object_type)) ||
        !event_add_field(event, EVENT_ACTION, text_of(row->action)) ||
        !event_add_field(event, EVENT_LEAD_ID, text_of("{lead_id}")) ||
        !event_add_field(event, EVENT_OBJECT_ID, text_of("{object_id}")))
        abort(); /* no memory: see alloc.h */
    return event;
}

/* Room is doubled when it is used up: at every power of two. */
static void append_destination(struct topic_report_row *row,
                               const struct topic_report_destination *destination)
{
    if ((row->count & (row->count - 1)) == 0) {
        row->destinations =
            realloc(row->destinations, (2 * row->count + 1) * sizeof(*row->destinations));
        if (!row->destinations)
            abort(); /* no memory: see alloc.h */
    }
    row->destinations[row->count++] = *destination;
}

static void add_destination(struct topic_report_row *row, const struct config_entry *entry,
                            enum publisher_index publisher, bool is_conditional,
                            const struct event *event)
{
    struct topic_report_destination destination = {
        .entry = entry,
        .target = publisher == PUBLISHER_KAFKA ? &entry->kafka : &entry->mqtt,
        .publisher = publisher,
        .is_conditional = is_conditional,
    };
    char topic[TOPIC_MAX + 1];
    struct error err;

    if (!destination.target->is_configured)
        return;
    if (topic_template_render(destination.target->topic, event, topic, &err) == 0)
        destination.topic = alloc_string(topic);
    else
        destination.refusal = alloc_string(err.message);
    append_destination(row, &destination);
}

static bool takes(const struct config_entry *entry, const struct topic_report_row *row)
{
    return topic_map_entry_takes(entry, text_of(row->account), text_of(row->object_type),
                                 text_of(row->action));
}

/* True when every event that the fallback would get goes to an entry that is none. */
static bool is_left_nothing(const struct config *config, const struct config_entry *fallback,
                            const struct topic_report_row *row)
{
    for (size_t i = 0; i < config->entry_count; i++) {
        const struct config_entry *entry = &config->entries[i];

        if (!entry->fallback && takes(entry, row) && topic_map_filter_covers(entry, fallback))
            return true;
    }
    return false;
}

/* True when some events of the pair go to an entry that is no fallback. */
static bool has_others(const struct config *config, const struct topic_report_row *row)
{
    for (size_t i = 0; i < config->entry_count; i++) {
        if (!config->entries[i].fallback && takes(&config->entries[i], row))
            return true;
    }
    return false;
}

static void add_destinations(struct topic_report_row *row, const struct config *config)
{
    struct event *event = sample_event(row);
    bool is_conditional;

    for (size_t i = 0; i < config->entry_count; i++) {
        const struct config_entry *entry = &config->entries[i];

        if (!takes(entry, row) || (entry->fallback && is_left_nothing(config, entry, row)))
            continue;
        is_conditional = entry->filter || (entry->fallback && has_others(config, row));
        for (int p = 0; p < PUBLISHER_COUNT; p++)
            add_destination(row, entry, (enum publisher_index)p, is_conditional, event);
    }
    event_unref(event);
}

static void set_subscription(struct topic_report_row *row, const struct subscribed_pairs *pairs)
{
    for (size_t i = 0; i < pairs->count; i++) {
        const struct subscribed_pair *pair = &pairs->pairs[i];

        if (strcmp(pair->object_type, row->object_type) != 0 ||
            strcmp(pair->action, row->action) != 0)
            continue;
        row->is_subscribed = true;
        row->extra_filter = pair->extra_filter ? alloc_string(pair->extra_filter) : NULL;
        return;
    }
}

/* ---- all rows ---- */

static bool same_string(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool goes_the_same_ways(const struct topic_report_row *a, const struct topic_report_row *b)
{
    if (a->count != b->count || a->is_subscribed != b->is_subscribed ||
        !same_string(a->extra_filter, b->extra_filter))
        return false;
    for (size_t i = 0; i < a->count; i++) {
        if (a->destinations[i].target != b->destinations[i].target ||
            !same_string(a->destinations[i].topic, b->destinations[i].topic))
            return false;
    }
    return true;
}

/* What is needed to make rows. */
struct maker {
    const struct config *config;
    struct subscribed_pairs *subscribed; /* of each account */
    struct topic_report *report;
};

/* The rows that were just made for the accounts become one when they say the same. */
static void merge_rows(struct topic_report *report, size_t first)
{
    for (size_t i = first + 1; i < report->count; i++) {
        if (!goes_the_same_ways(&report->rows[first], &report->rows[i]))
            return;
    }
    while (report->count > first + 1)
        release_row(&report->rows[--report->count]);
    report->rows[first].account = NULL;
}

static void add_pair(struct maker *maker, const char *object_type, const char *action)
{
    struct topic_report *report = maker->report;
    size_t account_count = maker->config->account_count;
    size_t first = report->count;

    report->rows = realloc(report->rows, (first + account_count + 1) * sizeof(*report->rows));
    if (!report->rows)
        abort(); /* no memory: see alloc.h */
    for (size_t i = 0; i < account_count; i++) {
        struct topic_report_row *row = &report->rows[report->count++];

        *row = (struct topic_report_row){
            .object_type = object_type,
            .action = action,
            .known = catalog_find(text_of(object_type), text_of(action)),
            .account = maker->config->accounts[i].name,
        };
        add_destinations(row, maker->config);
        set_subscription(row, &maker->subscribed[i]);
    }
    merge_rows(report, first);
}

static bool has_pair(const struct topic_report *report, const char *object_type, const char *action)
{
    for (size_t i = 0; i < report->count; i++) {
        if (strcmp(report->rows[i].object_type, object_type) == 0 &&
            strcmp(report->rows[i].action, action) == 0)
            return true;
    }
    return false;
}

/* What the entry names outside the catalog. */
static void add_named(struct maker *maker, const struct config_entry *entry)
{
    if (!entry->object_type || strchr(entry->object_type, '*'))
        return;
    for (size_t i = 0; i < entry->action_count; i++) {
        if (!has_pair(maker->report, entry->object_type, entry->actions[i]))
            add_pair(maker, entry->object_type, entry->actions[i]);
    }
}

struct topic_report *topic_report_make(const struct config *config)
{
    struct maker maker = {
        .config = config,
        .subscribed = alloc_zeroed(config->account_count, sizeof(*maker.subscribed)),
        .report = alloc_zeroed(1, sizeof(*maker.report)),
    };

    for (size_t i = 0; i < config->account_count; i++) {
        if (subscribed_pairs_list(config, config->accounts[i].name, &maker.subscribed[i], NULL) < 0)
            abort(); /* no memory: see alloc.h */
    }
    for (size_t i = 0; i < catalog_size; i++)
        add_pair(&maker, catalog_pairs[i].object_type, catalog_pairs[i].action);
    for (size_t i = 0; i < config->entry_count; i++)
        add_named(&maker, &config->entries[i]);
    for (size_t i = 0; i < config->account_count; i++)
        subscribed_pairs_release(&maker.subscribed[i]);
    free(maker.subscribed);
    return maker.report;
}

/* ---- showing it ---- */

const char *topic_report_publisher_name(enum publisher_index publisher)
{
    return publisher == PUBLISHER_KAFKA ? "kafka" : "mqtt";
}

const char *topic_report_status(const struct topic_report_row *row)
{
    return row->known ? catalog_status_name(row->known->status) : "unlisted";
}

/* "name":"value", or null. */
static void append_member(struct buf *json, const char *name, const char *value)
{
    buf_printf(json, "\"%s\":", name);
    if (value)
        buf_append_json_string(json, text_of(value));
    else
        buf_append_string(json, "null");
    buf_append_char(json, ',');
}

static const char *bool_name(bool value)
{
    return value ? "true" : "false";
}

static void append_of_publisher(const struct topic_report_destination *destination,
                                struct buf *json)
{
    const struct config_target *target = destination->target;

    if (destination->publisher == PUBLISHER_KAFKA) {
        append_member(json, "key", target->key_source);
        append_member(json, "timestamp", target->timestamp_is_event ? "event" : "received");
        buf_printf(json, "\"tombstone\":%s,", bool_name(target->tombstone));
    } else {
        buf_printf(json, "\"qos\":%d,\"retain\":%s,", target->qos, bool_name(target->retain));
    }
}

static void show_destination(const struct topic_report_destination *destination, struct buf *json)
{
    const struct config_entry *entry = destination->entry;

    buf_append_char(json, '{');
    append_member(json, "publisher", topic_report_publisher_name(destination->publisher));
    append_member(json, "topic", destination->topic);
    if (destination->refusal)
        append_member(json, "refusal", destination->refusal);
    append_member(json, "format", format_name(destination->target->format));
    append_of_publisher(destination, json);
    buf_printf(json, "\"conditional\":%s,\"fallback\":%s,\"filter\":",
               bool_name(destination->is_conditional), bool_name(entry->fallback));
    buf_append_text(json, entry->filter ? filter_json(entry->filter) : text_of("null"));
    buf_append_string(json, ",\"fields\":");
    if (entry->fields)
        field_policy_append_json(entry->fields, json);
    else
        buf_append_string(json, "null");
    buf_printf(json, ",\"line\":%d}", entry->line);
}

static void append_row(const struct topic_report_row *row, struct buf *json)
{
    buf_append_char(json, '{');
    append_member(json, "object_type", row->object_type);
    append_member(json, "action", row->action);
    append_member(json, "category", row->known ? row->known->category : NULL);
    append_member(json, "label", row->known ? row->known->label : NULL);
    append_member(json, "group", row->known ? row->known->group : NULL);
    append_member(json, "status", topic_report_status(row));
    append_member(json, "account", row->account);
    buf_printf(json, "\"subscribed\":%s,\"extra_filter\":%s,\"destinations\":[",
               bool_name(row->is_subscribed), row->extra_filter ? row->extra_filter : "null");
    for (size_t i = 0; i < row->count; i++) {
        if (i > 0)
            buf_append_char(json, ',');
        show_destination(&row->destinations[i], json);
    }
    buf_append_string(json, "]}");
}

void topic_report_append_json(const struct topic_report *report, struct buf *json)
{
    buf_append_string(json, "{\"pairs\":[");
    for (size_t i = 0; i < report->count; i++) {
        buf_append_string(json, i > 0 ? ",\n " : "\n ");
        append_row(&report->rows[i], json);
    }
    buf_append_string(json, "\n]}");
}
