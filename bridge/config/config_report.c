#include "bridge/config/config_report.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/buf.h"
#include "bridge/base/text.h"
#include "bridge/config/config_node.h"

enum { LINES_MAX = 1000, CUT_MIN = 8, HIDDEN_MIN = 4 };

struct config_report_line {
    int line;
    size_t order; /* keeps the sort stable */
    char *text;
};

void config_report_release(struct config_report *report)
{
    for (size_t i = 0; i < report->count; i++)
        free(report->lines[i].text);
    free(report->lines);
    *report = (struct config_report){.file = report->file};
}

static bool grow(struct config_report *report)
{
    size_t capacity = report->capacity ? report->capacity * 2 : 16;
    struct config_report_line *lines;

    if (report->count < report->capacity)
        return true;
    if (report->count >= LINES_MAX)
        return false;
    lines = realloc(report->lines, capacity * sizeof(*lines));
    if (!lines)
        return false;
    report->lines = lines;
    report->capacity = capacity;
    return true;
}

/* Takes the content of `text`. */
static void keep(struct config_report *report, int line, struct buf *text)
{
    if (text->failed || !text->data || !grow(report)) {
        report->left_out++;
        buf_release(text);
        return;
    }
    report->lines[report->count] =
        (struct config_report_line){.line = line, .order = report->count, .text = text->data};
    report->count++;
}

/* The deepest node on the way from `node` along `key`; `*out_is_whole` when that is all of it. */
static const struct config_node *deepest(const struct config_node *node, const char *key,
                                         bool *out_is_whole)
{
    while (key && *key) {
        size_t size = strcspn(key, ".");
        char *name = text_dup((struct text){key, size});
        const struct config_node *child = name ? config_node_get(node, name) : NULL;

        free(name);
        if (!child)
            break;
        node = child;
        key += size + (key[size] == '.');
    }
    *out_is_whole = !key || !*key;
    return node;
}

/* How much of what stands at `at` is `value`, which a sentence may have cut. */
static size_t shown_of(const char *at, const char *value)
{
    size_t size = 0;

    while (value[size] && at[size] == value[size])
        size++;
    return value[size] == '\0' || size >= CUT_MIN ? size : 0;
}

/* Hides what came from outside: sentences made elsewhere repeat what they were given. */
static void hide(char *message, const char *value)
{
    char *to = message;

    if (strlen(value) < HIDDEN_MIN)
        return; /* no secret, but half the words of a sentence */
    for (const char *from = message; *from;) {
        size_t size = shown_of(from, value);

        /* In place: it must not become longer. */
        if (size) {
            *to++ = '*';
            from += size;
        } else {
            *to++ = *from++;
        }
    }
    *to = '\0';
}

static void hide_values(char *message, const struct config_node *node)
{
    if (node->is_substituted)
        hide(message, node->text);
    for (size_t i = 0; i < node->count; i++)
        hide_values(message, node->items[i]);
}

__attribute__((format(printf, 3, 0))) static void
append_message(struct buf *text, const struct config_node *about, const char *fmt, va_list args)
{
    char message[1024];

    vsnprintf(message, sizeof(message), fmt, args);
    if (about)
        hide_values(message, about);
    for (char *c = message; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    }
    buf_append_string(text, message);
}

__attribute__((format(printf, 5, 0))) static void
add(struct config_report *report, const char *severity, const struct config_node *node,
    const char *key, const char *fmt, va_list args)
{
    bool is_whole;
    const struct config_node *about = deepest(node, key, &is_whole);
    struct buf text = {0};
    size_t start;

    buf_printf(&text, "%s:%d: %s", report->file, about->line, severity);
    start = text.size;
    config_node_append_path(node, &text);
    if (key) {
        if (text.size > start)
            buf_append_char(&text, '.');
        buf_append_string(&text, key);
    }
    if (text.size > start)
        buf_append_string(&text, ": ");
    append_message(&text, is_whole ? about : NULL, fmt, args);
    keep(report, about->line, &text);
}

void config_report_mistake(struct config_report *report, const struct config_node *node,
                           const char *key, const char *fmt, ...)
{
    va_list args;

    report->mistakes++;
    va_start(args, fmt);
    add(report, "", node, key, fmt, args);
    va_end(args);
}

void config_report_warning(struct config_report *report, const struct config_node *node,
                           const char *key, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    add(report, "warning: ", node, key, fmt, args);
    va_end(args);
}

void config_report_line(struct config_report *report, int line, const char *fmt, ...)
{
    struct buf text = {0};
    va_list args;

    report->mistakes++;
    buf_printf(&text, "%s:%d: ", report->file, line);
    va_start(args, fmt);
    append_message(&text, NULL, fmt, args);
    va_end(args);
    keep(report, line, &text);
}

static int by_line(const void *a, const void *b)
{
    const struct config_report_line *left = a;
    const struct config_report_line *right = b;

    if (left->line != right->line)
        return left->line < right->line ? -1 : 1;
    return left->order < right->order ? -1 : 1;
}

void config_report_print(struct config_report *report, struct buf *out)
{
    if (report->count)
        qsort(report->lines, report->count, sizeof(report->lines[0]), by_line);
    for (size_t i = 0; i < report->count; i++) {
        buf_append_string(out, report->lines[i].text);
        buf_append_char(out, '\n');
    }
    if (report->left_out)
        buf_printf(out, "%s: %zu more messages are left out\n", report->file, report->left_out);
}
