#include "bridge/framing_guard.h"

#include <string.h>
#include <strings.h>

struct counts {
    size_t hosts;
    size_t lengths;
    size_t encodings;
    bool is_1_1;
    const char *trouble;
};

size_t framing_head_size(struct text bytes)
{
    for (size_t i = 0; i + 1 < bytes.size; i++) {
        if (bytes.data[i] != '\n')
            continue;
        if (bytes.data[i + 1] == '\n')
            return i + 2;
        if (i + 2 < bytes.size && bytes.data[i + 1] == '\r' && bytes.data[i + 2] == '\n')
            return i + 3;
    }
    return 0;
}

/* RFC 9110 section 5.6.2 */
static bool is_token_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_named(struct text name, const char *wanted)
{
    return name.size == strlen(wanted) && strncasecmp(name.data, wanted, name.size) == 0;
}

static struct text trim(struct text value)
{
    while (value.size > 0 && (value.data[0] == ' ' || value.data[0] == '\t')) {
        value.data++;
        value.size--;
    }
    while (value.size > 0 &&
           (value.data[value.size - 1] == ' ' || value.data[value.size - 1] == '\t'))
        value.size--;
    return value;
}

static void check_length(struct counts *counts, struct text value)
{
    uint64_t length;

    if (++counts->lengths > 1)
        counts->trouble = "there is more than one Content-Length";
    else if (!text_to_u64(value, &length))
        counts->trouble = "the Content-Length is not a number";
}

static void check_encoding(struct counts *counts, struct text value)
{
    if (++counts->encodings > 1)
        counts->trouble = "there is more than one Transfer-Encoding";
    else if (!counts->is_1_1)
        counts->trouble = "there is a Transfer-Encoding in an HTTP/1.0 request";
    else if (!is_named(value, "chunked"))
        counts->trouble = "the Transfer-Encoding is not chunked";
}

static void check_header(struct counts *counts, struct text line)
{
    const char *colon = memchr(line.data, ':', line.size);
    struct text name = {line.data, colon ? (size_t)(colon - line.data) : 0};
    struct text value;

    if (name.size == 0) {
        counts->trouble = "a header line has no name";
        return;
    }
    for (size_t i = 0; i < name.size; i++) {
        if (!is_token_char(name.data[i])) {
            counts->trouble = "a header name has a character that names cannot have";
            return;
        }
    }
    value = trim((struct text){colon + 1, line.size - name.size - 1});
    if (is_named(name, "host"))
        counts->hosts++;
    else if (is_named(name, "content-length"))
        check_length(counts, value);
    else if (is_named(name, "transfer-encoding"))
        check_encoding(counts, value);
}

static void check_request_line(struct counts *counts, struct text line)
{
    const char *first = memchr(line.data, ' ', line.size);
    const char *last = memrchr(line.data, ' ', line.size);

    if (!first || first == last || memchr(first + 1, ' ', (size_t)(last - first - 1))) {
        counts->trouble = "the request line is not method, target and version";
        return;
    }
    counts->is_1_1 =
        is_named((struct text){last + 1, line.size - (size_t)(last + 1 - line.data)}, "HTTP/1.1");
}

static const char *check_line(struct counts *counts, struct text line, bool is_first)
{
    for (size_t i = 0; i < line.size; i++) {
        if (line.data[i] == '\r' || line.data[i] == '\0')
            return "a line has a bare CR or a NUL in it";
    }
    if (is_first)
        check_request_line(counts, line);
    else if (line.data[0] == ' ' || line.data[0] == '\t')
        counts->trouble = "a header is folded over lines";
    else
        check_header(counts, line);
    return counts->trouble;
}

const char *framing_check(struct text head, bool *out_is_chunked)
{
    struct counts counts = {0};
    const char *at = head.data;
    const char *end = head.data + head.size;
    bool is_first = true;

    /* One empty line before the request is allowed (RFC 9112 section 2.2). */
    if (head.size >= 2 && at[0] == '\r' && at[1] == '\n')
        at += 2;
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        struct text line;

        if (!newline || newline == at || newline[-1] != '\r')
            return "a line does not end with CR LF";
        line = (struct text){at, (size_t)(newline - 1 - at)};
        at = newline + 1;
        if (line.size == 0)
            break;
        if (check_line(&counts, line, is_first))
            return counts.trouble ? counts.trouble : "a line has a bare CR or a NUL in it";
        is_first = false;
    }
    *out_is_chunked = counts.encodings > 0;
    if (counts.encodings > 0 && counts.lengths > 0)
        return "there are both a Content-Length and a Transfer-Encoding";
    if (counts.hosts > 1 || (counts.is_1_1 && counts.hosts == 0))
        return "there is not exactly one Host";
    return NULL;
}
