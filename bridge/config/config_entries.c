#include <stdlib.h>
#include <string.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "bridge/base/suggest.h"
#include "bridge/config/config.h"
#include "bridge/config/config_directives.h"
#include "bridge/config/config_node.h"
#include "bridge/config/config_parts.h"
#include "bridge/config/config_report.h"
#include "schemas/field_policy.h"
#include "schemas/filter.h"

enum { ENTRIES_MAX = 4096, FILTER_DEPTH_MAX = 24 };

static void free_strings(char **strings, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(strings[i]);
    free(strings);
}

static void release_target(struct config_target *target)
{
    topic_template_free(target->topic);
    topic_template_free(target->key_template);
    free(target->topic_source);
    free(target->key_source);
}

void config_entry_release(struct config_entry *entry)
{
    free(entry->object_type);
    free_strings(entry->actions, entry->action_count);
    free(entry->category);
    free_strings(entry->labels, entry->label_count);
    free(entry->group);
    free(entry->account);
    filter_free(entry->filter);
    field_policy_free(entry->fields);
    release_target(&entry->kafka);
    release_target(&entry->mqtt);
}

/* ---- extra_filter: YAML to JSON ---- */

static size_t count_digits(const char *text)
{
    return strspn(text, "0123456789");
}

/* JSON's grammar of a number: what YAML calls one beyond that (0x10, .5, 1_000) is a string. */
static bool is_json_number(const char *text)
{
    size_t digits;

    text += *text == '-';
    digits = count_digits(text);
    if (digits == 0 || (digits > 1 && text[0] == '0'))
        return false;
    text += digits;
    if (*text == '.') {
        digits = count_digits(++text);
        if (digits == 0)
            return false;
        text += digits;
    }
    if (*text == 'e' || *text == 'E') {
        text++;
        text += *text == '+' || *text == '-';
        digits = count_digits(text);
        if (digits == 0)
            return false;
        text += digits;
    }
    return *text == '\0';
}

static void append_scalar(const struct config_node *node, struct buf *json)
{
    /* What comes from outside is a string, whatever it looks like. */
    bool is_bare = node->is_plain && !node->is_substituted;

    if (config_node_is_null(node))
        buf_append_string(json, "null");
    else if (is_bare && (strcmp(node->text, "true") == 0 || strcmp(node->text, "false") == 0 ||
                         is_json_number(node->text)))
        buf_append_string(json, node->text);
    else
        buf_append_json_string(json, text_of(node->text));
}

/* False when it is nested too deeply. */
static bool append_json(const struct config_node *node, int depth, struct buf *json)
{
    bool is_map = node->kind == NODE_MAP;

    if (depth > FILTER_DEPTH_MAX)
        return false;
    if (node->kind == NODE_SCALAR) {
        append_scalar(node, json);
        return true;
    }
    buf_append_char(json, is_map ? '{' : '[');
    for (size_t i = 0; i < node->count; i++) {
        if (i)
            buf_append_char(json, ',');
        if (is_map) {
            buf_append_json_string(json, text_of(node->items[i]->key));
            buf_append_char(json, ':');
        }
        if (!append_json(node->items[i], depth + 1, json))
            return false;
    }
    buf_append_char(json, is_map ? '}' : ']');
    return true;
}

static bool is_broken(const struct config_node *node)
{
    if (node->is_broken)
        return true;
    for (size_t i = 0; i < node->count; i++) {
        if (is_broken(node->items[i]))
            return true;
    }
    return false;
}

void config_load_filter(struct config_loader *loader, const struct config_node *node, void *base)
{
    struct config_entry *entry = base;
    struct error err = {0};
    struct buf json = {0};

    if (is_broken(node) || !config_expect_map(loader, node))
        return;
    if (!append_json(node, 0, &json))
        config_report_mistake(loader->report, node, NULL, "is nested too deeply");
    else if (json.failed)
        config_report_line(loader->report, 1, "out of memory");
    else {
        entry->filter = filter_compile(buf_text(&json), &err);
        if (!entry->filter)
            config_report_mistake(loader->report, node, NULL, "%s", err.message);
    }
    buf_release(&json);
}

/* ---- destinations ---- */

int config_parse_format(struct config_loader *loader, const char *value, void *base,
                        struct error *err)
{
    static const char *const names[] = {"event", "raw", "cloudevents", "msgpack", NULL};
    struct config_target *target = base;
    const char *nearest;

    (void)loader;
    if (format_from_name(text_of(value), &target->format))
        return 0;
    nearest = suggest(text_of(value), names);
    return error_set(err, ERROR_CONFIG, "is not one of event, raw, cloudevents or msgpack%s%s%s",
                     nearest ? "; did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
}

int config_parse_timestamp(struct config_loader *loader, const char *value, void *base,
                           struct error *err)
{
    struct config_target *target = base;

    (void)loader;
    target->timestamp_is_event = strcmp(value, "event") == 0;
    if (!target->timestamp_is_event && strcmp(value, "received") != 0)
        return error_set(err, ERROR_CONFIG, "is neither received nor event");
    return 0;
}

int config_parse_key(struct config_loader *loader, const char *value, void *base, struct error *err)
{
    static const char *const names[] = {"lead_id",         "object_id", "event_id",
                                        "organization_id", "none",      NULL};
    struct config_target *target = base;
    struct error why = {0};
    const char *nearest;

    (void)loader;
    free(target->key_source); /* the default's */
    target->key_source = text_dup(text_of(value));
    if (!target->key_source)
        return error_set(err, ERROR_FATAL, "cannot be kept: out of memory");
    for (int i = 0; names[i]; i++) {
        if (strcmp(names[i], value) == 0) {
            target->key = (enum key_kind)i;
            return 0;
        }
    }
    if (strchr(value, '{')) {
        target->key = KEY_TEMPLATE;
        target->key_template = key_template_compile(text_of(value), &why);
        return target->key_template ? 0
                                    : error_set(err, ERROR_CONFIG, "is no key: %s", why.message);
    }
    nearest = suggest(text_of(value), names);
    return error_set(err, ERROR_CONFIG,
                     "is not one of lead_id, object_id, event_id, organization_id, none, nor a "
                     "template such as {object_type}.{action}%s%s%s",
                     nearest ? "; did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
}

static void load_target(struct config_loader *loader, const struct config_node *node,
                        enum topic_kind kind, struct config_target *target)
{
    const char *prefix = kind == TOPIC_KAFKA ? "topic_map[].kafka" : "topic_map[].mqtt";
    struct error err = {0};

    if (!config_expect_map(loader, node))
        return;
    target->is_configured = true;
    target->line = node->line;
    config_directives_default(loader, prefix, target);
    config_directives_apply(loader, node, prefix, target);
    if (!target->topic_source)
        return;
    target->topic = topic_template_compile(text_of(target->topic_source), kind, &err);
    if (!target->topic)
        config_report_mistake(loader->report, node, "topic", "%s", err.message);
}

void config_load_kafka_target(struct config_loader *loader, const struct config_node *node,
                              void *base)
{
    struct config_target *target = &((struct config_entry *)base)->kafka;

    load_target(loader, node, TOPIC_KAFKA, target);
    if (target->tombstone && target->key != KEY_OBJECT_ID)
        config_report_mistake(loader->report, node, "tombstone",
                              "needs key: object_id, else it would erase other objects");
}

void config_load_mqtt_target(struct config_loader *loader, const struct config_node *node,
                             void *base)
{
    load_target(loader, node, TOPIC_MQTT, &((struct config_entry *)base)->mqtt);
}

/* ---- entries ---- */

static void check_shape(struct config_loader *loader, const struct config_node *node)
{
    static const char *const of_category[] = {"labels", "group"};
    bool has_type = config_node_get(node, "object_type") != NULL;
    bool has_category = config_node_get(node, "category") != NULL;

    if (has_type && has_category)
        config_report_mistake(loader->report, node, "category",
                              "only one of object_type and category can be used");
    else if (!has_type && !has_category)
        config_report_mistake(loader->report, node, "object_type",
                              "is missing (or category): the entry selects nothing");
    if (has_category && config_node_get(node, "action"))
        config_report_mistake(loader->report, node, "action",
                              "goes with object_type; a category is narrowed by labels");
    for (size_t i = 0; i < sizeof(of_category) / sizeof(of_category[0]); i++) {
        if (!has_category && config_node_get(node, of_category[i]))
            config_report_mistake(loader->report, node, of_category[i], "goes with category only");
    }
    if (!config_node_get(node, "kafka") && !config_node_get(node, "mqtt"))
        config_report_mistake(loader->report, node, NULL, "goes nowhere: kafka or mqtt is missing");
}

static void load_entry(struct config_loader *loader, const struct config_node *node,
                       struct config_entry *entry)
{
    entry->line = node->line;
    config_directives_default(loader, "topic_map[]", entry);
    config_directives_apply(loader, node, "topic_map[]", entry);
    if (node->kind != NODE_MAP)
        return;
    config_give_fields(loader, node, entry);
    check_shape(loader, node);
    config_check_selector(loader, node, entry);
}

void config_load_entries(struct config_loader *loader, const struct config_node *node, void *base)
{
    struct config *config = base;

    if (node->kind != NODE_LIST || node->count == 0) {
        config_report_mistake(loader->report, node, NULL,
                              "expected a list of at least one entry, found %s",
                              node->kind == NODE_LIST ? "none" : config_node_kind_name(node));
        return;
    }
    if (node->count > ENTRIES_MAX) {
        config_report_mistake(loader->report, node, NULL, "has more than %d entries", ENTRIES_MAX);
        return;
    }
    config->entries = calloc(node->count, sizeof(*config->entries));
    if (!config->entries) {
        config_report_line(loader->report, 1, "out of memory");
        return;
    }
    config->entry_count = node->count;
    for (size_t i = 0; i < node->count; i++)
        load_entry(loader, node->items[i], &config->entries[i]);
}
