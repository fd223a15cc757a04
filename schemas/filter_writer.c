#include "schemas/filter_internal.h"

#include <string.h>

#include "schemas/event_members.h"
#include "schemas/filter.h"
#include "schemas/json_scan.h"

/* How a tree is written. */
struct style {
    struct buf *out;
    const char *data; /* where Close finds what the event does not have; NULL: as in the file */
};

/* ---- values ---- */

static void write_string(struct text string, struct buf *out)
{
    struct buf plain = {0};

    json_unescape(json_string_inside(string), &plain);
    buf_append_json_string(out, buf_text(&plain));
    out->failed = out->failed || plain.failed;
    buf_release(&plain);
}

/* Without space, strings with as few escapes as there can be. */
static void write_value(struct text value, struct buf *out)
{
    const char *end = value.data + value.size;

    for (const char *at = value.data; at < end; at++) {
        struct text string;

        if (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')
            continue;
        if (*at != '"') {
            buf_append_char(out, *at);
            continue;
        }
        string = json_document((struct text){at, (size_t)(end - at)});
        write_string(string, out);
        at += string.size - 1;
    }
}

/* ---- nodes ---- */

static void write_node(const struct filter_node *node, bool is_root, const struct style *style);

static void begin_accessor(struct text field, struct buf *out)
{
    buf_append_string(out, "{\"type\":\"field_accessor\",\"field\":");
    buf_append_json_string(out, field);
    buf_append_string(out, ",\"filter\":");
}

/* The first key of a path. Custom fields have a dot in theirs: custom.cf_x. */
static struct text first_key(const char *path)
{
    return (struct text){path, text_starts_with(text_of(path), "custom.") ? strlen(path)
                                                                          : strcspn(path, ".")};
}

/* Close follows one key at a time, and at the root only members of the event. */
static void write_accessor_for_close(const struct filter_node *node, bool is_root,
                                     const struct style *style)
{
    struct text key = first_key(node->field);
    size_t depth = 1;

    if (is_root && !event_has_member(key)) {
        begin_accessor(text_of(style->data), style->out);
        depth++;
    }
    begin_accessor(key, style->out);
    while (key.data[key.size] == '.') {
        key = first_key(key.data + key.size + 1);
        begin_accessor(key, style->out);
        depth++;
    }
    write_node(node->children[0], false, style);
    while (depth-- > 0)
        buf_append_char(style->out, '}');
}

static void write_list(const struct filter_node *node, bool is_root, const struct style *style)
{
    buf_append_string(style->out, ",\"filters\":[");
    for (size_t i = 0; i < node->child_count; i++) {
        if (i > 0)
            buf_append_char(style->out, ',');
        write_node(node->children[i], is_root, style);
    }
    buf_append_string(style->out, "]}");
}

static void write_operator(const struct filter_node *node, bool is_root, const struct style *style)
{
    bool stays_at_root = node->type == OP_AND || node->type == OP_OR || node->type == OP_NOT;

    buf_printf(style->out, "{\"type\":\"%s\"", filter_operator_name(node->type));
    if (node->value.data) {
        buf_append_string(style->out, ",\"value\":");
        write_value(node->value, style->out);
    }
    if (node->type == OP_AND || node->type == OP_OR) {
        write_list(node, is_root, style);
        return;
    }
    if (node->child_count > 0) {
        buf_append_string(style->out, ",\"filter\":");
        write_node(node->children[0], is_root && stays_at_root, style);
    }
    buf_append_char(style->out, '}');
}

static void write_node(const struct filter_node *node, bool is_root, const struct style *style)
{
    if (node->type != OP_FIELD_ACCESSOR) {
        write_operator(node, is_root, style);
    } else if (style->data) {
        write_accessor_for_close(node, is_root, style);
    } else {
        begin_accessor(text_of(node->field), style->out);
        write_node(node->children[0], false, style);
        buf_append_char(style->out, '}');
    }
}

void filter_write(const struct filter_node *node, struct buf *out)
{
    const struct style style = {.out = out};

    write_node(node, true, &style);
}

void filter_append_for_close(const struct filter *filter, bool is_deletion, struct buf *out)
{
    const struct style style = {.out = out, .data = is_deletion ? "previous_data" : "data"};

    write_node(filter->root, true, &style);
}
