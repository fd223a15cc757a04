#include "bridge/base/error.h"
#include "bridge/config/config.h"
#include "bridge/config/config_directives.h"
#include "bridge/config/config_node.h"
#include "bridge/config/config_parts.h"
#include "bridge/config/config_report.h"
#include "schemas/field_policy.h"

static void add_path(struct config_loader *loader, const struct config_node *node,
                     struct field_policy *policy)
{
    char quoted[CONFIG_QUOTED_SIZE];
    struct error err = {0};

    if (!node->is_broken && config_expect_value(loader, node) &&
        field_policy_add(policy, text_of(node->text), &err) < 0)
        config_report_mistake(loader->report, node, NULL, "%s %s", config_quote(node, quoted),
                              err.message);
}

/* A list of paths, or one instead. */
void config_load_field_paths(struct config_loader *loader, const struct config_node *node,
                             void *base)
{
    struct field_policy *policy = ((struct config_entry *)base)->fields;

    if (node->kind == NODE_MAP || (node->kind == NODE_LIST && node->count == 0)) {
        config_report_mistake(loader->report, node, NULL,
                              "expected a list of paths such as data.emails, found %s",
                              node->kind == NODE_MAP ? "a mapping" : "none");
        return;
    }
    if (node->kind == NODE_SCALAR)
        add_path(loader, node, policy);
    for (size_t i = 0; i < node->count; i++)
        add_path(loader, node->items[i], policy);
}

void config_load_fields(struct config_loader *loader, const struct config_node *node, void *base)
{
    struct config_entry *entry = base;
    bool has_keep = config_node_get(node, "keep") != NULL;

    if (!config_expect_map(loader, node))
        return;
    if (has_keep == (config_node_get(node, "drop") != NULL))
        config_report_mistake(loader->report, node, NULL,
                              has_keep ? "only one of drop and keep can be used"
                                       : "has neither drop nor keep");
    entry->fields = field_policy_new(has_keep ? FIELDS_KEEP : FIELDS_DROP);
    if (entry->fields)
        config_directives_apply(loader, node, "topic_map[].fields", entry);
    else
        config_report_line(loader->report, 1, "out of memory");
}

static void give_to(struct config_loader *loader, const struct config_node *node,
                    const struct config_entry *entry, const char *name,
                    struct config_target *target)
{
    target->fields = entry->fields;
    if (entry->fields && target->is_configured && target->format == FORMAT_RAW)
        config_report_mistake(loader->report, node, name,
                              "is raw, the whole body byte for byte: nothing can be cut out of it; "
                              "with fields use event, cloudevents or msgpack");
}

void config_give_fields(struct config_loader *loader, const struct config_node *node,
                        struct config_entry *entry)
{
    give_to(loader, node, entry, "kafka.format", &entry->kafka);
    give_to(loader, node, entry, "mqtt.format", &entry->mqtt);
}
