/*
 * What the effective topic map says about the entries: some never get an event, some send the same
 * event to one topic twice, some make names that no broker takes. These are warnings: such a map
 * can be served.
 */
#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"
#include "bridge/config/config.h"
#include "bridge/config/config_directives.h"
#include "bridge/config/config_node.h"
#include "bridge/config/config_parts.h"
#include "bridge/config/config_report.h"
#include "bridge/config/topic_report.h"
#include "schemas/catalog.h"

/* An entry that publishes to a topic what another one before it sends there too. */
struct repeat {
    const struct config_entry *other; /* NULL: none */
    const struct topic_report_row *first;
    size_t rows;
};

/* What was found out about an entry. */
struct finding {
    bool is_reached;
    bool asks; /* the bridge subscribes to a pair because of it */
    struct repeat repeats[PUBLISHER_COUNT];
    const struct topic_report_row *refused[PUBLISHER_COUNT]; /* the first pair without a topic */
    const char *refusals[PUBLISHER_COUNT];
};

struct reach {
    struct config_loader *loader;
    const struct config *config;
    struct finding *findings; /* of each entry */
};

static struct finding *finding_of(struct reach *reach, const struct config_entry *entry)
{
    return &reach->findings[entry - reach->config->entries];
}

static const struct config_node *node_of(const struct reach *reach, size_t entry)
{
    return config_node_get(reach->loader->root, "topic_map")->items[entry];
}

/* ---- finding ---- */

/* An event may pass both filters when one surely passes what the other does; of others nobody
 * knows. A fallback never gets what another entry takes. */
static bool may_both_take(const struct config_entry *a, const struct config_entry *b)
{
    return a->fallback == b->fallback &&
           (topic_map_filter_covers(a, b) || topic_map_filter_covers(b, a));
}

/* Those with one publisher and topic beside each other, in the order of the file. */
static int by_topic(const void *a, const void *b)
{
    const struct topic_report_destination *left =
        *(const struct topic_report_destination *const *)a;
    const struct topic_report_destination *right =
        *(const struct topic_report_destination *const *)b;
    int order = (int)left->publisher - (int)right->publisher;

    if (order == 0)
        order = strcmp(left->topic ? left->topic : "", right->topic ? right->topic : "");
    return order != 0 ? order : (left > right) - (left < right);
}

static bool is_same_topic(const struct topic_report_destination *a,
                          const struct topic_report_destination *b)
{
    return a->publisher == b->publisher && a->topic && b->topic && strcmp(a->topic, b->topic) == 0;
}

static void find_repeat(struct reach *reach, const struct topic_report_row *row,
                        const struct topic_report_destination *const *sorted, size_t index)
{
    const struct topic_report_destination *destination = sorted[index];
    struct repeat *repeat = &finding_of(reach, destination->entry)->repeats[destination->publisher];

    for (size_t i = index; i > 0 && is_same_topic(sorted[i - 1], destination); i--) {
        if (!may_both_take(sorted[i - 1]->entry, destination->entry))
            continue;
        if (!repeat->other) {
            repeat->other = sorted[i - 1]->entry;
            repeat->first = row;
        }
        repeat->rows++;
        return;
    }
}

static void find_repeats(struct reach *reach, const struct topic_report_row *row)
{
    const struct topic_report_destination **sorted =
        alloc_zeroed(row->count, sizeof(const struct topic_report_destination *));

    for (size_t i = 0; i < row->count; i++)
        sorted[i] = &row->destinations[i];
    qsort(sorted, row->count, sizeof(const struct topic_report_destination *), by_topic);
    for (size_t i = 0; i < row->count; i++)
        find_repeat(reach, row, sorted, i);
    free(sorted);
}

static void look_at_row(struct reach *reach, const struct topic_report_row *row)
{
    for (size_t i = 0; i < row->count; i++) {
        const struct topic_report_destination *destination = &row->destinations[i];
        struct finding *finding = finding_of(reach, destination->entry);

        finding->is_reached = true;
        finding->asks |= topic_map_entry_asks_for(destination->entry, text_of(row->object_type),
                                                  text_of(row->action));
        if (destination->refusal && !finding->refused[destination->publisher]) {
            finding->refused[destination->publisher] = row;
            finding->refusals[destination->publisher] = destination->refusal;
        }
    }
    if (row->count > 1)
        find_repeats(reach, row);
}

/* ---- pairs that nobody knows ---- */

static bool is_left_to(const struct config *config, const struct config_entry *fallback,
                       const char *account, const char *object_type, const char *action)
{
    if (!topic_map_entry_takes(fallback, text_of(account), text_of(object_type), text_of(action)))
        return false;
    for (size_t i = 0; i < config->entry_count; i++) {
        const struct config_entry *entry = &config->entries[i];

        if (!entry->fallback && topic_map_filter_covers(entry, fallback) &&
            topic_map_entry_takes(entry, text_of(account), text_of(object_type), text_of(action)))
            return false;
    }
    return true;
}

/*
 * True when a pair outside the catalog could reach the fallback: one that stands for all, with a
 * name that no event has and only wildcards match.
 */
static bool takes_unknown_pairs(const struct config *config, const struct config_entry *fallback)
{
    struct buf object_type = {0};
    bool found = false;

    if (!fallback->object_type)
        return false;
    buf_append_string(&object_type, fallback->object_type);
    if (object_type.data[object_type.size - 1] == '*')
        object_type.data[object_type.size - 1] = '?';
    for (size_t i = 0; i < config->account_count && !found; i++) {
        const char *account = config->accounts[i].name;

        if (fallback->action_count == 0)
            found = is_left_to(config, fallback, account, object_type.data, "?");
        for (size_t a = 0; a < fallback->action_count && !found; a++)
            found = is_left_to(config, fallback, account, object_type.data, fallback->actions[a]);
    }
    buf_release(&object_type);
    return found;
}

/* ---- saying it ---- */

/* True when the entry would take a pair of the catalog if wildcards stood for it. */
static bool is_left_without_its_pairs(const struct config_entry *entry)
{
    for (size_t i = 0; i < catalog_size; i++) {
        if (config_selector_fits(entry, &catalog_pairs[i]))
            return true;
    }
    return false;
}

static void warn_unreached(struct reach *reach, size_t index)
{
    const struct config_entry *entry = &reach->config->entries[index];
    const struct finding *finding = &reach->findings[index];
    struct config_report *report = reach->loader->report;

    if (entry->fallback && !finding->is_reached && !takes_unknown_pairs(reach->config, entry))
        config_report_warning(report, node_of(reach, index), "fallback",
                              "is never reached: other entries take every event that it could get");
    else if (!finding->asks && !entry->fallback && is_left_without_its_pairs(entry))
        config_report_warning(report, node_of(reach, index), NULL,
                              "subscribes to nothing at Close: a wildcard stands for documented "
                              "pairs only, and here is none; name the actions");
}

static void warn_repeat(struct reach *reach, size_t index, enum publisher_index publisher)
{
    const struct repeat *repeat = &reach->findings[index].repeats[publisher];
    struct buf more = {0};

    if (!repeat->other)
        return;
    if (repeat->rows > 1)
        buf_printf(&more, " and %zu more", repeat->rows - 1);
    config_report_warning(reach->loader->report, node_of(reach, index),
                          publisher == PUBLISHER_KAFKA ? "kafka.topic" : "mqtt.topic",
                          "gets events twice: the entry in line %d sends %s/%s%s to the same topic",
                          repeat->other->line, repeat->first->object_type, repeat->first->action,
                          more.size ? more.data : "");
    buf_release(&more);
}

static void warn_refused(struct reach *reach, size_t index, enum publisher_index publisher)
{
    const struct finding *finding = &reach->findings[index];
    const struct topic_report_row *row = finding->refused[publisher];

    if (row)
        config_report_warning(reach->loader->report, node_of(reach, index),
                              publisher == PUBLISHER_KAFKA ? "kafka.topic" : "mqtt.topic",
                              "has no name for %s/%s, whose events become dead letters: %s",
                              row->object_type, row->action, finding->refusals[publisher]);
}

static void warn_dead_letters(struct reach *reach, const struct topic_report *report)
{
    const char *topic = reach->config->dead_letter_topic;

    for (size_t i = 0; topic && i < report->count; i++) {
        for (size_t d = 0; d < report->rows[i].count; d++) {
            const struct topic_report_destination *destination = &report->rows[i].destinations[d];

            if (destination->publisher != PUBLISHER_KAFKA || !destination->topic ||
                strcmp(destination->topic, topic) != 0)
                continue;
            config_report_warning(reach->loader->report, reach->loader->root,
                                  "dead_letters.kafka.topic",
                                  "is a topic of the entry in line %d too: its consumers cannot "
                                  "tell dead letters but by their headers",
                                  destination->entry->line);
            return;
        }
    }
}

void config_check_reach(struct config_loader *loader)
{
    struct topic_report *report = topic_report_make(loader->config);
    struct reach reach = {
        .loader = loader,
        .config = loader->config,
        .findings = alloc_zeroed(loader->config->entry_count, sizeof(*reach.findings)),
    };

    for (size_t i = 0; i < report->count; i++)
        look_at_row(&reach, &report->rows[i]);
    for (size_t i = 0; i < loader->config->entry_count; i++) {
        warn_unreached(&reach, i);
        for (int p = 0; p < PUBLISHER_COUNT; p++) {
            warn_repeat(&reach, i, (enum publisher_index)p);
            warn_refused(&reach, i, (enum publisher_index)p);
        }
    }
    warn_dead_letters(&reach, report);
    free(reach.findings);
    topic_report_free(report);
}
