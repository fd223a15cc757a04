#include "bridge/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void buf_release(struct buf *buf)
{
    free(buf->data);
    *buf = (struct buf){0};
}

void buf_clear(struct buf *buf)
{
    buf->size = 0;
    buf->failed = false;
    if (buf->data)
        buf->data[0] = '\0';
}

bool buf_reserve(struct buf *buf, size_t size)
{
    size_t needed = buf->size + size + 1;
    size_t capacity = buf->capacity ? buf->capacity : 64;
    char *data;

    if (buf->failed)
        return false;
    if (needed <= buf->capacity)
        return true;
    while (capacity < needed)
        capacity *= 2;
    data = realloc(buf->data, capacity);
    if (!data) {
        buf->failed = true;
        return false;
    }
    buf->data = data;
    buf->data[buf->size] = '\0';
    buf->capacity = capacity;
    return true;
}

void buf_append(struct buf *buf, const void *data, size_t size)
{
    if (!buf_reserve(buf, size))
        return;
    if (size)
        memcpy(buf->data + buf->size, data, size);
    buf->size += size;
    buf->data[buf->size] = '\0';
}

void buf_append_text(struct buf *buf, struct text text)
{
    buf_append(buf, text.data, text.size);
}

void buf_append_string(struct buf *buf, const char *string)
{
    buf_append(buf, string, strlen(string));
}

void buf_append_char(struct buf *buf, char c)
{
    buf_append(buf, &c, 1);
}

void buf_append_comma(struct buf *buf)
{
    if (buf->size > 0 && buf->data[buf->size - 1] != '[' && buf->data[buf->size - 1] != '{')
        buf_append_char(buf, ',');
}

void buf_printf(struct buf *buf, const char *fmt, ...)
{
    va_list args;
    int size;

    va_start(args, fmt);
    size = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (size < 0 || !buf_reserve(buf, (size_t)size))
        return;
    va_start(args, fmt);
    vsnprintf(buf->data + buf->size, (size_t)size + 1, fmt, args);
    va_end(args);
    buf->size += (size_t)size;
}

void buf_append_json_string(struct buf *buf, struct text text)
{
    size_t start = 0;

    buf_append_char(buf, '"');
    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = (unsigned char)text.data[i];

        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f)
            continue;
        buf_append(buf, text.data + start, i - start);
        start = i + 1;
        if (c == '"' || c == '\\')
            buf_printf(buf, "\\%c", c);
        else
            buf_printf(buf, "\\u%04x", (unsigned)c);
    }
    if (text.size > start)
        buf_append(buf, text.data + start, text.size - start);
    buf_append_char(buf, '"');
}

void buf_append_utc(struct buf *buf, int64_t wall_ms)
{
    int64_t milliseconds = (wall_ms % 1000 + 1000) % 1000;
    time_t seconds = (time_t)((wall_ms - milliseconds) / 1000);
    struct tm utc = {0};
    char text[32];

    gmtime_r(&seconds, &utc);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
    buf_printf(buf, "%s.%03dZ", text, (int)milliseconds);
}

struct text buf_text(const struct buf *buf)
{
    return (struct text){buf->data ? buf->data : "", buf->size};
}
