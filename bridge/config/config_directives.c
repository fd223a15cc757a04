#include "bridge/config/config_directives.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/error.h"
#include "bridge/base/suggest.h"
#include "bridge/config/config_node.h"
#include "bridge/config/config_report.h"
#include "bridge/config/config_values.h"

enum { PATH_SIZE = 512, NAME_SIZE = 128 };

/* One value on its way into the configuration. `node` is NULL for a default. */
struct value {
    struct config_loader *loader;
    const struct directive *row;
    const struct config_node *node;
    const char *text;
    void *base;
};

const char *config_quote(const struct config_node *node, char *out)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_.:/+-*[]";
    size_t size = strlen(node->text);

    /* What has an @ may be a URL with a password in it. */
    if (node->is_substituted || strchr(node->text, '@'))
        snprintf(out, CONFIG_QUOTED_SIZE, "the value");
    else if (size > 0 && size <= 64 && strspn(node->text, plain) == size)
        snprintf(out, CONFIG_QUOTED_SIZE, "%s", node->text);
    else
        snprintf(out, CONFIG_QUOTED_SIZE, "\"%.64s%s\"", node->text, size > 64 ? "..." : "");
    return out;
}

bool config_expect_map(struct config_loader *loader, const struct config_node *node)
{
    if (node->kind == NODE_MAP)
        return true;
    if (!node->is_broken)
        config_report_mistake(loader->report, node, NULL, "expected a mapping, found %s",
                              config_node_kind_name(node));
    return false;
}

bool config_expect_value(struct config_loader *loader, const struct config_node *node)
{
    if (node->is_broken)
        return false;
    if (node->kind == NODE_SCALAR && !config_node_is_null(node))
        return true;
    config_report_mistake(loader->report, node, NULL, "expected a value, found %s",
                          config_node_kind_name(node));
    return false;
}

/* The row's own part of its path below `prefix`, NULL when it is not below. */
static const char *below(const char *path, const char *prefix)
{
    size_t size = strlen(prefix);

    assert(path);
    if (size == 0)
        return path;
    return strncmp(path, prefix, size) == 0 && path[size] == '.' ? path + size + 1 : NULL;
}

static const struct directive *find_row(const char *path)
{
    for (size_t i = 0; i < config_directive_count; i++) {
        if (strcmp(config_directives[i].path, path) == 0)
            return &config_directives[i];
    }
    return NULL;
}

static bool is_section(const char *path)
{
    for (size_t i = 0; i < config_directive_count; i++) {
        if (below(config_directives[i].path, path))
            return true;
    }
    return false;
}

/* ---- one value ---- */

static void *target(const struct value *value)
{
    return (char *)value->base + value->row->offset;
}

__attribute__((format(printf, 2, 3))) static void mistake(const struct value *value,
                                                          const char *fmt, ...)
{
    char quoted[CONFIG_QUOTED_SIZE];
    char sentence[512];
    va_list args;

    if (!value->node)
        return; /* a default: the tests prove that they are good */
    va_start(args, fmt);
    vsnprintf(sentence, sizeof(sentence), fmt, args);
    va_end(args);
    config_report_mistake(value->loader->report, value->node, NULL, "%s %s",
                          value->row->type == DIRECTIVE_SECRET ? "the value"
                                                               : config_quote(value->node, quoted),
                          sentence);
}

static bool in_range(const struct value *value, uint64_t number,
                     void (*show)(uint64_t number, char *out))
{
    const struct directive *row = value->row;
    char limit[CONFIG_SHOWN_SIZE];

    if (number == 0 && row->zero_is_off)
        return true;
    if (number >= row->min && number <= row->max)
        return true;
    show(number < row->min ? row->min : row->max, limit);
    if (number < row->min)
        mistake(value, "is below the least value of %s%s", limit,
                row->zero_is_off ? " (0 is off)" : "");
    else
        mistake(value, "is above the limit of %s", limit);
    return false;
}

static void show_number(uint64_t number, char *out)
{
    snprintf(out, CONFIG_SHOWN_SIZE, "%" PRIu64, number);
}

static void show_duration(uint64_t number, char *out)
{
    config_value_show_duration((int64_t)number, out);
}

static void set_bytes(const struct value *value)
{
    struct error err = {0};
    uint64_t bytes;

    if (config_value_bytes(text_of(value->text), &bytes, &err) != 0)
        mistake(value, "%s", err.message);
    else if (in_range(value, bytes, config_value_show_bytes))
        *(uint64_t *)target(value) = bytes;
}

static void set_duration(const struct value *value)
{
    struct error err = {0};
    int64_t ms;

    if (config_value_duration(text_of(value->text), &ms, &err) != 0)
        mistake(value, "%s", err.message);
    else if (in_range(value, (uint64_t)ms, show_duration))
        *(int64_t *)target(value) = ms;
}

static void set_seconds(const struct value *value)
{
    struct error err = {0};
    uint64_t seconds = 0;
    int64_t ms;

    if (!text_to_u64(text_of(value->text), &seconds)) {
        if (config_value_duration(text_of(value->text), &ms, &err) != 0 || ms % 1000) {
            mistake(value, "is not a number of seconds, nor a duration such as 10m");
            return;
        }
        seconds = (uint64_t)ms / 1000;
    }
    if (in_range(value, seconds, show_number))
        *(uint32_t *)target(value) = (uint32_t)seconds;
}

static void set_count(const struct value *value)
{
    uint64_t count;

    if (!text_to_u64(text_of(value->text), &count))
        mistake(value, "is not a whole number");
    else if (in_range(value, count, show_number))
        *(uint32_t *)target(value) = (uint32_t)count;
}

static void set_bool(const struct value *value)
{
    struct error err = {0};

    if (config_value_bool(text_of(value->text), target(value), &err) != 0)
        mistake(value, "%s", err.message);
}

static void set_choice(const struct value *value)
{
    const char *const *choices = value->row->choices;
    char known[256] = "";
    const char *nearest;

    for (int i = 0; choices[i]; i++) {
        if (strcmp(choices[i], value->text) == 0) {
            *(int *)target(value) = i;
            return;
        }
    }
    for (int i = 0; choices[i]; i++) {
        size_t size = strlen(known);

        snprintf(known + size, sizeof(known) - size, "%s%s",
                 i == 0 ? "" : (choices[i + 1] ? ", " : " or "), choices[i]);
    }
    nearest = suggest(text_of(value->text), choices);
    if (nearest)
        mistake(value, "is not one of %s; did you mean %s?", known, nearest);
    else
        mistake(value, "is not one of %s", known);
}

static bool is_of_length(const struct value *value, size_t size)
{
    if (size < value->row->min)
        mistake(value, "is shorter than %" PRIu64 " bytes", value->row->min);
    else if (size > value->row->max)
        mistake(value, "is longer than %" PRIu64 " bytes", value->row->max);
    return size >= value->row->min && size <= value->row->max;
}

static void set_string(const struct value *value)
{
    char **out = target(value);
    size_t size = strlen(value->text);
    char *copy;

    if (size == 0 && value->row->min > 0) {
        mistake(value, "must not be empty");
        return;
    }
    if (text_has_control(text_of(value->text))) {
        mistake(value, "holds a control character, such as the end of a line");
        return;
    }
    if (!is_of_length(value, size))
        return;
    copy = value->row->type == DIRECTIVE_PATH
               ? config_value_path(value->text, value->loader->directory)
               : text_dup(text_of(value->text));
    if (!copy)
        config_report_line(value->loader->report, 1, "out of memory");
    free(*out);
    *out = copy;
}

static void set_custom(const struct value *value)
{
    struct error err = {0};

    if (value->row->parse(value->loader, value->text, value->base, &err) == 0)
        return;
    if (!value->node) /* a default is good */
        config_report_line(value->loader->report, 1, "out of memory");
    mistake(value, "%s", err.message);
}

static void set_value(const struct value *value)
{
    switch (value->row->type) {
    case DIRECTIVE_BYTES:
        set_bytes(value);
        break;
    case DIRECTIVE_DURATION:
        set_duration(value);
        break;
    case DIRECTIVE_SECONDS:
        set_seconds(value);
        break;
    case DIRECTIVE_COUNT:
        set_count(value);
        break;
    case DIRECTIVE_BOOL:
        set_bool(value);
        break;
    case DIRECTIVE_CHOICE:
        set_choice(value);
        break;
    case DIRECTIVE_STRING:
    case DIRECTIVE_SECRET:
    case DIRECTIVE_PATH:
        set_string(value);
        break;
    case DIRECTIVE_CUSTOM:
        set_custom(value);
        break;
    case DIRECTIVE_NODE:
        break;
    }
}

/* ---- mappings ---- */

/* True when a row that reads its own mapping stands between the prefix and this row. */
static bool has_own_base(const struct directive *row, const char *prefix)
{
    for (size_t i = 0; i < config_directive_count; i++) {
        const struct directive *other = &config_directives[i];
        size_t size = strlen(other->path);

        if (other->type == DIRECTIVE_NODE && below(other->path, prefix) &&
            strncmp(row->path, other->path, size) == 0 &&
            (row->path[size] == '.' || row->path[size] == '['))
            return true;
    }
    return false;
}

void config_directives_default(struct config_loader *loader, const char *prefix, void *base)
{
    for (size_t i = 0; i < config_directive_count; i++) {
        const struct directive *row = &config_directives[i];
        struct value value = {loader, row, NULL, row->default_value, base};

        if (row->default_value && below(row->path, prefix) && !has_own_base(row, prefix))
            set_value(&value);
    }
}

static bool apply_row(struct config_loader *loader, const struct directive *row,
                      const struct config_node *node, void *base)
{
    struct value value = {loader, row, node, node->text, base};

    if (row->type == DIRECTIVE_NODE)
        row->load(loader, node, base);
    else if (config_expect_value(loader, node))
        set_value(&value);
    return true;
}

bool config_directives_apply_key(struct config_loader *loader, const struct config_node *node,
                                 const char *prefix, void *base)
{
    const struct directive *row;
    char path[PATH_SIZE];

    if (node->is_repeated)
        return true;
    if (strpbrk(node->key, ".["))
        return false;
    snprintf(path, sizeof(path), "%s%s%s", prefix, *prefix ? "." : "", node->key);
    row = find_row(path);
    if (row)
        return apply_row(loader, row, node, base);
    if (!is_section(path))
        return false;
    config_directives_apply(loader, node, path, base);
    return true;
}

void config_directives_require(struct config_loader *loader, const struct config_node *node,
                               const char *prefix)
{
    for (size_t i = 0; i < config_directive_count; i++) {
        const struct directive *row = &config_directives[i];
        const char *key = below(row->path, prefix);

        if (row->is_required && key && !strpbrk(key, ".[") && !config_node_get(node, key))
            config_report_mistake(loader->report, node, key, "is missing");
    }
}

char *config_directives_nearest(const char *prefix, const char *key)
{
    struct suggestion suggestion = {.word = text_of(key)};
    char best[NAME_SIZE];

    for (size_t i = 0; i < config_directive_count; i++) {
        const char *rest = below(config_directives[i].path, prefix);
        char name[NAME_SIZE];

        if (!rest)
            continue;
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(rest, ".["), rest);
        suggestion_offer(&suggestion, name);
        if (suggestion.name == name) {
            memcpy(best, name, sizeof(best));
            suggestion.name = best;
        }
    }
    return suggestion.name ? text_dup(text_of(suggestion.name)) : NULL;
}

static void report_unknown(struct config_loader *loader, const struct config_node *node,
                           const char *prefix)
{
    char *nearest = config_directives_nearest(prefix, node->key);

    if (nearest)
        config_report_mistake(loader->report, node, NULL, "unknown key; did you mean %s?", nearest);
    else
        config_report_mistake(loader->report, node, NULL, "unknown key");
    free(nearest);
}

void config_directives_apply(struct config_loader *loader, const struct config_node *node,
                             const char *prefix, void *base)
{
    if (!config_expect_map(loader, node))
        return;
    for (size_t i = 0; i < node->count; i++) {
        if (!config_directives_apply_key(loader, node->items[i], prefix, base))
            report_unknown(loader, node->items[i], prefix);
    }
    config_directives_require(loader, node, prefix);
}

/* ---- lists of strings ---- */

static bool is_new_string(struct config_loader *loader, const struct config_node *node,
                          char *const *strings, size_t count)
{
    char quoted[CONFIG_QUOTED_SIZE];

    if (!config_expect_value(loader, node))
        return false;
    if (node->text[0] == '\0' || text_has_control(text_of(node->text))) {
        config_report_mistake(loader->report, node, NULL,
                              "must not be empty nor hold a control character");
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        assert(strings[i]);
        if (strcmp(strings[i], node->text) == 0) {
            config_report_mistake(loader->report, node, NULL, "%s is in the list already",
                                  config_quote(node, quoted));
            return false;
        }
    }
    return true;
}

void config_load_strings(struct config_loader *loader, const struct config_node *node,
                         char ***out_strings, size_t *out_count)
{
    struct config_node *self = (struct config_node *)(uintptr_t)node;
    struct config_node *const *items = node->kind == NODE_LIST ? node->items : &self;
    size_t count = node->kind == NODE_LIST ? node->count : 1;
    char **strings;

    if (node->kind == NODE_MAP) {
        config_report_mistake(loader->report, node, NULL, "expected a list, found a mapping");
        return;
    }
    if (count > 256) {
        config_report_mistake(loader->report, node, NULL, "has more than 256 items");
        return;
    }
    strings = calloc(count ? count : 1, sizeof(char *));
    *out_strings = strings;
    for (size_t i = 0; strings && i < count; i++) {
        if (!is_new_string(loader, items[i], strings, *out_count))
            continue;
        strings[*out_count] = text_dup(text_of(items[i]->text));
        if (!strings[*out_count])
            break;
        ++*out_count;
    }
    if (!strings)
        config_report_line(loader->report, 1, "out of memory");
}
