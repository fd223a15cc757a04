#include <stdlib.h>
#include <string.h>

#include "bridge/base/error.h"
#include "bridge/base/suggest.h"
#include "bridge/config/config.h"
#include "bridge/config/config_directives.h"
#include "bridge/config/config_node.h"
#include "bridge/config/config_parts.h"
#include "bridge/config/config_report.h"
#include "schemas/catalog.h"

enum { NAME_MAX_SIZE = 128 };

/* [A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)* */
static bool is_dotted_name(struct text name)
{
    bool is_start = true;

    if (name.size == 0 || name.size > NAME_MAX_SIZE)
        return false;
    for (size_t i = 0; i < name.size; i++) {
        char c = name.data[i];

        if (c == '.' && is_start)
            return false;
        is_start = c == '.';
        if (!is_start && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') &&
            !(c >= '0' && c <= '9') && c != '_' && c != '-')
            return false;
    }
    return !is_start;
}

static bool is_prefix_pattern(const char *pattern)
{
    size_t size = strlen(pattern);

    return size > 2 && strcmp(pattern + size - 2, ".*") == 0;
}

int config_parse_object_type(struct config_loader *loader, const char *value, void *base,
                             struct error *err)
{
    struct config_entry *entry = base;
    size_t size = strlen(value);

    (void)loader;
    /* Events are resolved in the same way before they are matched. */
    if (strcmp(value, "custom_activity") == 0)
        value = "activity.custom_activity";
    else if (strcmp(value, "*") != 0 &&
             !is_dotted_name((struct text){value, size - (is_prefix_pattern(value) ? 2 : 0)}))
        return error_set(err, ERROR_CONFIG,
                         "is not an object type such as lead, a prefix such as activity.*, nor *");
    entry->object_type = text_dup(text_of(value));
    return entry->object_type ? 0 : error_set(err, ERROR_FATAL, "cannot be kept: out of memory");
}

/* Forgets a list: no action named means every action. */
static void clear_actions(struct config_entry *entry)
{
    for (size_t i = 0; i < entry->action_count; i++)
        free(entry->actions[i]);
    free(entry->actions);
    entry->actions = NULL;
    entry->action_count = 0;
}

void config_load_actions(struct config_loader *loader, const struct config_node *node, void *base)
{
    struct config_entry *entry = base;
    bool is_every = false;

    if (node->kind == NODE_LIST && node->count == 0) {
        config_report_mistake(loader->report, node, NULL,
                              "is empty; write \"*\" for every action, or leave it out");
        return;
    }
    config_load_strings(loader, node, &entry->actions, &entry->action_count);
    for (size_t i = 0; i < entry->action_count; i++) {
        if (strcmp(entry->actions[i], "*") == 0)
            is_every = true;
        else if (!is_dotted_name(text_of(entry->actions[i])))
            config_report_mistake(loader->report, node, NULL,
                                  "an action is a word such as created, or \"*\"");
    }
    if (is_every)
        clear_actions(entry);
}

void config_load_labels(struct config_loader *loader, const struct config_node *node, void *base)
{
    struct config_entry *entry = base;

    if (node->kind == NODE_LIST && node->count == 0)
        config_report_mistake(loader->report, node, NULL,
                              "is empty; leave it out for every label of the category");
    else
        config_load_strings(loader, node, &entry->labels, &entry->label_count);
}

/* ---- against the catalog ---- */

static bool type_matches(const char *pattern, const char *object_type)
{
    if (strcmp(pattern, "*") == 0)
        return true;
    if (is_prefix_pattern(pattern))
        return strncmp(pattern, object_type, strlen(pattern) - 1) == 0;
    return strcmp(pattern, object_type) == 0;
}

static bool in_group(const struct config_entry *entry, const struct catalog_pair *pair)
{
    return !entry->group || strcmp(entry->group, pair->group) == 0;
}

static bool is_known_type(const char *pattern)
{
    for (size_t i = 0; i < catalog_size; i++) {
        if (type_matches(pattern, catalog_pairs[i].object_type))
            return true;
    }
    return false;
}

static bool has_string(char *const *strings, size_t count, const char *string)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(strings[i], string) == 0)
            return true;
    }
    return false;
}

bool config_selector_fits(const struct config_entry *entry, const struct catalog_pair *pair)
{
    if (entry->category)
        return strcmp(entry->category, pair->category) == 0 && in_group(entry, pair) &&
               (entry->label_count == 0 ||
                has_string(entry->labels, entry->label_count, pair->label));
    return type_matches(entry->object_type, pair->object_type) &&
           (entry->action_count == 0 ||
            has_string(entry->actions, entry->action_count, pair->action));
}

static void warn_unknown_type(struct config_loader *loader, const struct config_node *node,
                              const struct config_entry *entry)
{
    struct suggestion suggestion = {.word = text_of(entry->object_type)};

    for (size_t i = 0; i < catalog_size; i++)
        suggestion_offer(&suggestion, catalog_pairs[i].object_type);
    if (suggestion.name)
        config_report_warning(loader->report, node, "object_type",
                              "not in Close's catalog; did you mean %s?", suggestion.name);
    else
        config_report_warning(loader->report, node, "object_type",
                              entry->action_count > 0
                                  ? "not in Close's catalog"
                                  : "not in Close's catalog: to subscribe to it, write an exact "
                                    "type and its actions");
}

static void warn_unknown_action(struct config_loader *loader, const struct config_node *node,
                                const struct config_entry *entry, const char *action)
{
    struct suggestion suggestion = {.word = text_of(action)};

    for (size_t i = 0; i < catalog_size; i++) {
        if (!type_matches(entry->object_type, catalog_pairs[i].object_type))
            continue;
        if (strcmp(catalog_pairs[i].action, action) == 0)
            return;
        suggestion_offer(&suggestion, catalog_pairs[i].action);
    }
    config_report_warning(loader->report, node, "action",
                          "%.64s has no action %.64s in Close's catalog%s%s%s", entry->object_type,
                          action, suggestion.name ? "; did you mean " : "",
                          suggestion.name ? suggestion.name : "", suggestion.name ? "?" : "");
}

static void check_category(struct config_loader *loader, const struct config_node *node,
                           const struct config_entry *entry, bool *out_is_known)
{
    struct suggestion suggestion = {.word = text_of(entry->category)};

    *out_is_known = false;
    for (size_t i = 0; i < catalog_size; i++) {
        if (strcmp(entry->category, catalog_pairs[i].category) == 0)
            *out_is_known = true;
        suggestion_offer(&suggestion, catalog_pairs[i].category);
    }
    if (!*out_is_known && suggestion.name)
        config_report_mistake(loader->report, node, "category",
                              "not in the catalog; did you mean %s?", suggestion.name);
    else if (!*out_is_known)
        config_report_mistake(loader->report, node, "category",
                              "not in the catalog; `close-bridge catalog` lists it");
}

static void check_group(struct config_loader *loader, const struct config_node *node,
                        const struct config_entry *entry, bool *out_is_known)
{
    struct suggestion suggestion = {.word = text_of(entry->group)};

    *out_is_known = !entry->group;
    for (size_t i = 0; entry->group && i < catalog_size; i++) {
        if (strcmp(entry->category, catalog_pairs[i].category) != 0 || !catalog_pairs[i].group[0])
            continue;
        if (strcmp(entry->group, catalog_pairs[i].group) == 0)
            *out_is_known = true;
        suggestion_offer(&suggestion, catalog_pairs[i].group);
    }
    if (*out_is_known)
        return;
    config_report_mistake(loader->report, node, "group", "not a group of the category %s%s%s%s",
                          entry->category, suggestion.name ? "; did you mean " : "",
                          suggestion.name ? suggestion.name : "", suggestion.name ? "?" : "");
}

static void check_label(struct config_loader *loader, const struct config_node *node,
                        const struct config_entry *entry, const char *label)
{
    struct suggestion suggestion = {.word = text_of(label)};

    for (size_t i = 0; i < catalog_size; i++) {
        if (strcmp(entry->category, catalog_pairs[i].category) != 0 ||
            !in_group(entry, &catalog_pairs[i]))
            continue;
        if (strcmp(label, catalog_pairs[i].label) == 0)
            return;
        suggestion_offer(&suggestion, catalog_pairs[i].label);
    }
    config_report_mistake(
        loader->report, node, "labels", "\"%.64s\" is not a label of the category %s%s%s%s%s%s%s",
        label, entry->category, entry->group ? ", group " : "", entry->group ? entry->group : "",
        suggestion.name ? "; did you mean \"" : "", suggestion.name ? suggestion.name : "",
        suggestion.name ? "\"" : "", suggestion.name ? "?" : "");
}

static bool is_substituted(const struct config_node *node, const char *key)
{
    const struct config_node *child = config_node_get(node, key);

    return child && child->is_substituted;
}

static void check_type(struct config_loader *loader, const struct config_node *node,
                       const struct config_entry *entry)
{
    if (!is_known_type(entry->object_type)) {
        warn_unknown_type(loader, node, entry);
        return;
    }
    for (size_t i = 0; i < entry->action_count; i++) {
        if (is_dotted_name(text_of(entry->actions[i])) && !is_substituted(node, "object_type"))
            warn_unknown_action(loader, node, entry, entry->actions[i]);
    }
}

void config_check_selector(struct config_loader *loader, const struct config_node *node,
                           const struct config_entry *entry)
{
    bool is_known;

    if (entry->object_type && !entry->category)
        check_type(loader, node, entry);
    if (!entry->category || entry->object_type)
        return;
    check_category(loader, node, entry, &is_known);
    if (is_known)
        check_group(loader, node, entry, &is_known);
    for (size_t i = 0; is_known && i < entry->label_count; i++)
        check_label(loader, node, entry, entry->labels[i]);
}
