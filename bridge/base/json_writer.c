#include "bridge/base/json_writer.h"

#include <stdarg.h>
#include <stdio.h>

#include "bridge/base/buf.h"

enum { MAX_VALUE = 4096 };

static void new_line(struct json_writer *writer)
{
    buf_append_char(writer->out, '\n');
    for (unsigned i = 0; i < writer->depth; i++)
        buf_append_string(writer->out, "  ");
}

static void begin_value(struct json_writer *writer, const char *name)
{
    if (writer->has_members)
        buf_append_char(writer->out, ',');
    if (writer->depth > 0)
        new_line(writer);
    writer->has_members = true;
    if (!name)
        return;
    buf_append_json_string(writer->out, text_of(name));
    buf_append_string(writer->out, ": ");
}

static void open(struct json_writer *writer, const char *name, char bracket)
{
    begin_value(writer, name);
    buf_append_char(writer->out, bracket);
    writer->depth++;
    writer->has_members = false;
}

static void close(struct json_writer *writer, char bracket)
{
    writer->depth--;
    if (writer->has_members)
        new_line(writer);
    buf_append_char(writer->out, bracket);
    writer->has_members = true;
}

void json_writer_open_object(struct json_writer *writer, const char *name)
{
    open(writer, name, '{');
}

void json_writer_close_object(struct json_writer *writer)
{
    close(writer, '}');
}

void json_writer_open_array(struct json_writer *writer, const char *name)
{
    open(writer, name, '[');
}

void json_writer_close_array(struct json_writer *writer)
{
    close(writer, ']');
}

void json_writer_string(struct json_writer *writer, const char *name, const char *value)
{
    begin_value(writer, name);
    buf_append_json_string(writer->out, text_of(value));
}

/* Appends a formatted string with its quotes. */
static void __attribute__((format(printf, 2, 0)))
append_formatted(struct json_writer *writer, const char *fmt, va_list args)
{
    char value[MAX_VALUE];

    vsnprintf(value, sizeof(value), fmt, args);
    buf_append_json_string(writer->out, text_of(value));
}

void json_writer_printf(struct json_writer *writer, const char *name, const char *fmt, ...)
{
    va_list args;

    begin_value(writer, name);
    va_start(args, fmt);
    append_formatted(writer, fmt, args);
    va_end(args);
}

void json_writer_reference(struct json_writer *writer, const char *name, const char *fmt, ...)
{
    va_list args;

    begin_value(writer, name);
    buf_append_string(writer->out, "{\"$ref\": ");
    va_start(args, fmt);
    append_formatted(writer, fmt, args);
    va_end(args);
    buf_append_char(writer->out, '}');
}

void json_writer_bool(struct json_writer *writer, const char *name, bool value)
{
    json_writer_json(writer, name, text_of(value ? "true" : "false"));
}

void json_writer_int(struct json_writer *writer, const char *name, long long value)
{
    begin_value(writer, name);
    buf_printf(writer->out, "%lld", value);
}

void json_writer_json(struct json_writer *writer, const char *name, struct text json)
{
    begin_value(writer, name);
    buf_append_text(writer->out, json);
}
