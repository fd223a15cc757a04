#include "bridge/config/config_node.h"

#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "bridge/base/buf.h"
#include "bridge/config/config_report.h"

enum {
    NODES_MAX = 100000, /* a map of 4,000 entries has about 60,000 */
    DEPTH_MAX = 32,
    KEY_MAX = 256,
};

static const char byte_order_mark[] = "\xef\xbb\xbf"; /* of UTF-8 */

struct builder {
    yaml_document_t *document;
    struct config_report *report;
    size_t nodes;
    bool has_failed; /* reported; what comes after would only repeat it */
};

void config_node_free(struct config_node *node)
{
    if (!node)
        return;
    for (size_t i = 0; i < node->count; i++)
        config_node_free(node->items[i]);
    free(node->items);
    if (node->text)
        explicit_bzero(node->text, strlen(node->text));
    free(node->text);
    free(node->key);
    free(node);
}

struct config_node *config_node_get(const struct config_node *map, const char *key)
{
    if (!map || map->kind != NODE_MAP)
        return NULL;
    for (size_t i = 0; i < map->count; i++) {
        if (strcmp(map->items[i]->key, key) == 0)
            return map->items[i];
    }
    return NULL;
}

bool config_node_is_null(const struct config_node *node)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};

    if (node->kind != NODE_SCALAR || !node->is_plain || node->is_substituted)
        return false;
    for (size_t i = 0; i < sizeof(nulls) / sizeof(nulls[0]); i++) {
        if (strcmp(node->text, nulls[i]) == 0)
            return true;
    }
    return false;
}

const char *config_node_kind_name(const struct config_node *node)
{
    switch (node->kind) {
    case NODE_MAP:
        return "a mapping";
    case NODE_LIST:
        return "a list";
    case NODE_SCALAR:
        break;
    }
    return config_node_is_null(node) ? "nothing" : "a value";
}

void config_node_append_path(const struct config_node *node, struct buf *out)
{
    if (!node->parent)
        return;
    config_node_append_path(node->parent, out);
    if (!node->key) {
        buf_printf(out, "[%zu]", node->index);
        return;
    }
    if (node->parent->parent)
        buf_append_char(out, '.');
    for (const char *c = node->key; *c; c++)
        buf_append_char(out, (unsigned char)*c < 0x20 || *c == 0x7f ? '?' : *c);
}

static int line_of(const yaml_node_t *source)
{
    return (int)source->start_mark.line + 1;
}

static struct config_node *fail(struct builder *builder, int line, const char *message)
{
    if (!builder->has_failed)
        config_report_line(builder->report, line, "%s", message);
    builder->has_failed = true;
    return NULL;
}

static struct config_node *out_of_memory(struct builder *builder)
{
    return fail(builder, 1, "out of memory");
}

/* A tag changes what a value is (!!binary, !include): none is needed here. */
static bool has_tag(const yaml_node_t *source)
{
    const char *tag = (const char *)source->tag;

    return tag && strcmp(tag, YAML_STR_TAG) != 0 && strcmp(tag, YAML_SEQ_TAG) != 0 &&
           strcmp(tag, YAML_MAP_TAG) != 0;
}

static struct config_node *build(struct builder *builder, int index, int depth);

static bool has_nul(const yaml_node_t *scalar)
{
    return memchr(scalar->data.scalar.value, 0, scalar->data.scalar.length) != NULL;
}

static struct config_node *build_scalar(struct builder *builder, const yaml_node_t *source,
                                        struct config_node *node)
{
    if (has_nul(source))
        return fail(builder, node->line, "a value holds a NUL byte");
    node->text = text_dup(
        (struct text){(const char *)source->data.scalar.value, source->data.scalar.length});
    if (!node->text)
        return out_of_memory(builder);
    node->is_plain = source->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    return node;
}

static struct config_node *build_list(struct builder *builder, const yaml_node_t *source,
                                      struct config_node *node, int depth)
{
    const yaml_node_item_t *start = source->data.sequence.items.start;
    size_t count = (size_t)(source->data.sequence.items.top - start);

    node->items = calloc(count ? count : 1, sizeof(struct config_node *));
    if (!node->items)
        return out_of_memory(builder);
    for (size_t i = 0; i < count; i++) {
        struct config_node *item = build(builder, start[i], depth + 1);

        if (!item)
            return NULL;
        item->parent = node;
        item->index = i;
        node->items[node->count++] = item;
    }
    return node;
}

/* The text of a key. Returns owned (free), NULL when it was reported. */
static char *build_key(struct builder *builder, int index)
{
    const yaml_node_t *source = yaml_document_get_node(builder->document, index);
    char *key;

    if (!source || source->type != YAML_SCALAR_NODE) {
        fail(builder, source ? line_of(source) : 1, "a key must be a plain word");
        return NULL;
    }
    if (source->data.scalar.length == 0 || source->data.scalar.length > KEY_MAX ||
        has_nul(source) || has_tag(source)) {
        fail(builder, line_of(source), "a key must be a plain word of at most 256 bytes");
        return NULL;
    }
    key = text_dup(
        (struct text){(const char *)source->data.scalar.value, source->data.scalar.length});
    if (!key)
        out_of_memory(builder);
    return key;
}

static struct config_node *build_map(struct builder *builder, const yaml_node_t *source,
                                     struct config_node *node, int depth)
{
    const yaml_node_pair_t *start = source->data.mapping.pairs.start;
    size_t count = (size_t)(source->data.mapping.pairs.top - start);

    node->items = calloc(count ? count : 1, sizeof(struct config_node *));
    if (!node->items)
        return out_of_memory(builder);
    for (size_t i = 0; i < count; i++) {
        char *key = build_key(builder, start[i].key);
        struct config_node *item = key ? build(builder, start[i].value, depth + 1) : NULL;

        if (!item) {
            free(key);
            return NULL;
        }
        item->key = key;
        item->parent = node;
        item->index = i;
        node->items[node->count++] = item;
    }
    return node;
}

static struct config_node *build_kind(struct builder *builder, const yaml_node_t *source,
                                      struct config_node *node, int depth)
{
    switch (source->type) {
    case YAML_SCALAR_NODE:
        node->kind = NODE_SCALAR;
        return build_scalar(builder, source, node);
    case YAML_SEQUENCE_NODE:
        node->kind = NODE_LIST;
        return build_list(builder, source, node, depth);
    case YAML_MAPPING_NODE:
        node->kind = NODE_MAP;
        return build_map(builder, source, node, depth);
    case YAML_NO_NODE:
        break;
    }
    return fail(builder, node->line, "this is not YAML");
}

static struct config_node *build(struct builder *builder, int index, int depth)
{
    const yaml_node_t *source = yaml_document_get_node(builder->document, index);
    struct config_node *node;

    if (!source)
        return fail(builder, 1, "this is not YAML");
    if (depth > DEPTH_MAX)
        return fail(builder, line_of(source),
                    "this is nested too deeply, or an alias holds itself");
    if (++builder->nodes > NODES_MAX)
        return fail(builder, line_of(source),
                    "this is too large: more than 100,000 values, aliases counted each time");
    if (has_tag(source))
        return fail(builder, line_of(source), "YAML tags (!name) are not supported");
    node = calloc(1, sizeof(*node));
    if (!node)
        return out_of_memory(builder);
    node->line = line_of(source);
    if (!build_kind(builder, source, node, depth)) {
        config_node_free(node);
        return NULL;
    }
    return node;
}

static int by_key(const void *a, const void *b)
{
    const struct config_node *left = *(const struct config_node *const *)a;
    const struct config_node *right = *(const struct config_node *const *)b;
    int order = strcmp(left->key, right->key);

    if (order)
        return order;
    return left->index < right->index ? -1 : 1;
}

/* Reports keys that occur twice in one mapping, anywhere. The sort makes it cheap for any file. */
static void report_repeated_keys(const struct config_node *node, struct config_report *report)
{
    struct config_node **sorted;

    for (size_t i = 0; i < node->count; i++)
        report_repeated_keys(node->items[i], report);
    if (node->kind != NODE_MAP || node->count < 2)
        return;
    sorted = calloc(node->count, sizeof(struct config_node *));
    if (!sorted) {
        config_report_line(report, 1, "out of memory");
        return;
    }
    memcpy(sorted, node->items, node->count * sizeof(struct config_node *));
    qsort(sorted, node->count, sizeof(struct config_node *), by_key);
    for (size_t i = 1; i < node->count; i++) {
        if (strcmp(sorted[i]->key, sorted[i - 1]->key) != 0)
            continue;
        sorted[i]->is_repeated = true;
        config_report_mistake(report, sorted[i], NULL, "is already set in line %d",
                              sorted[i - 1]->line);
    }
    free(sorted);
}

/* libyaml says of a tab that it is a character which cannot start a token. */
static bool is_indented_by_tab(struct text yaml, int line)
{
    size_t at = 0;

    for (int i = 1; i < line && at < yaml.size; at++)
        i += yaml.data[at] == '\n';
    while (at < yaml.size && yaml.data[at] == ' ')
        at++;
    return at < yaml.size && yaml.data[at] == '\t';
}

/* libyaml gives a place in bytes for what is not UTF-8, in lines for all else. */
static void report_syntax(const yaml_parser_t *parser, struct text yaml,
                          struct config_report *report)
{
    int line = (int)parser->problem_mark.line + 1;

    if (parser->error == YAML_READER_ERROR) {
        line = 1;
        for (size_t i = 0; i < yaml.size && i < parser->problem_offset; i++)
            line += yaml.data[i] == '\n';
        config_report_line(report, line, "this is not text in UTF-8: %s",
                           parser->problem ? parser->problem : "unreadable");
    } else if (parser->error == YAML_MEMORY_ERROR) {
        config_report_line(report, 1, "out of memory");
    } else if (parser->error == YAML_SCANNER_ERROR && is_indented_by_tab(yaml, line)) {
        config_report_line(report, line, "YAML syntax: a tab indents this line: YAML takes spaces");
    } else if (parser->context) {
        config_report_line(report, line, "YAML syntax: %s %s", parser->problem, parser->context);
    } else {
        config_report_line(report, line, "YAML syntax: %s",
                           parser->problem ? parser->problem : "not understood");
    }
}

/* Wipes what libyaml copied of the file, as far as it can be reached. */
static void wipe_document(yaml_document_t *document)
{
    for (yaml_node_t *node = document->nodes.start; node < document->nodes.top; node++) {
        if (node->type == YAML_SCALAR_NODE)
            explicit_bzero(node->data.scalar.value, node->data.scalar.length);
    }
    yaml_document_delete(document);
}

static void wipe_parser(yaml_parser_t *parser)
{
    if (parser->raw_buffer.start)
        explicit_bzero(parser->raw_buffer.start,
                       (size_t)(parser->raw_buffer.end - parser->raw_buffer.start));
    if (parser->buffer.start)
        explicit_bzero(parser->buffer.start, (size_t)(parser->buffer.end - parser->buffer.start));
    yaml_parser_delete(parser);
}

static struct config_node *build_tree(yaml_document_t *document, struct config_report *report)
{
    struct builder builder = {.document = document, .report = report};
    yaml_node_t *source = yaml_document_get_root_node(document);
    struct config_node *root;

    if (!source) {
        config_report_line(report, 1, "the file is empty");
        return NULL;
    }
    root = build(&builder, 1, 0);
    if (root && root->kind != NODE_MAP) {
        config_report_line(report, root->line, "expected a mapping, found %s",
                           config_node_kind_name(root));
        config_node_free(root);
        return NULL;
    }
    if (root)
        report_repeated_keys(root, report);
    return root;
}

/* What follows the first document: nothing may. */
static void report_second_document(yaml_parser_t *parser, struct text yaml,
                                   struct config_report *report)
{
    yaml_document_t document;
    yaml_node_t *root;

    if (!yaml_parser_load(parser, &document)) {
        report_syntax(parser, yaml, report);
        return;
    }
    root = yaml_document_get_root_node(&document);
    if (root)
        config_report_line(report, line_of(root), "a second YAML document is not allowed");
    wipe_document(&document);
}

struct config_node *config_node_parse(struct text yaml, struct config_report *report)
{
    struct config_node *root = NULL;
    yaml_document_t document;
    yaml_parser_t parser;

    /* libyaml takes it for a letter of the first key when it is told that this is UTF-8. */
    if (text_starts_with(yaml, byte_order_mark)) {
        yaml.data += sizeof(byte_order_mark) - 1;
        yaml.size -= sizeof(byte_order_mark) - 1;
    }
    if (!yaml_parser_initialize(&parser)) {
        config_report_line(report, 1, "out of memory");
        return NULL;
    }
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)yaml.data, yaml.size);
    if (yaml_parser_load(&parser, &document)) {
        root = build_tree(&document, report);
        wipe_document(&document);
        if (root)
            report_second_document(&parser, yaml, report);
    } else {
        report_syntax(&parser, yaml, report);
    }
    wipe_parser(&parser);
    return root;
}
