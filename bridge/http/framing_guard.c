#include "bridge/http/framing_guard.h"

#include <string.h>
#include <strings.h>

#include "bridge/base/text.h"

/* What a byte may be part of. Value: anything but control characters, tab allowed. Target: visible
 * ASCII but '#'. Host: what RFC 3986 allows in host and port. */
enum { IS_TOKEN = 1, IS_VALUE = 2, IS_TARGET = 4, IS_HOST = 8 };

/* clang-format off */
static const unsigned char classes[256] = {
     0,  0,  0,  0,  0,  0,  0,  0,  0,  2,  0,  0,  0,  0,  0,  0,
     0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
     2, 15,  6,  3, 15, 15, 15, 15, 14, 14, 15, 15,  6, 15, 15,  6,
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 14, 14,  6, 14,  6,  6,
     6, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 14,  6, 14,  7, 15,
     7, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,  6,  7,  6, 15,  0,
     2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,
     2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,
     2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,
     2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,
     2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,
     2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,
     2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,
     2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,  2,
};
/* clang-format on */

/* Longest Content-Length that cannot overflow anybody's 64 bits. */
enum { LENGTH_DIGITS = 18 };

struct counts {
    unsigned hosts;
    unsigned lengths;
    unsigned encodings;
};

static bool all_are(struct text text, unsigned char class)
{
    unsigned char seen = class;

    for (size_t i = 0; i < text.size; i++)
        seen &= classes[(unsigned char)text.data[i]];
    return seen != 0;
}

static bool is_value(struct text text)
{
    size_t plain = text_printable_start(text);

    return plain == text.size ||
           all_are((struct text){text.data + plain, text.size - plain}, IS_VALUE);
}

static bool same_ignoring_case(struct text a, const char *b, size_t size)
{
    return a.size == size && strncasecmp(a.data, b, size) == 0;
}

/* Cuts the line that `rest` begins with off it, without its CRLF. */
static enum framing_verdict next_line(struct text *rest, struct text *out_line)
{
    const char *end = memchr(rest->data, '\n', rest->size);
    size_t size;

    if (!end)
        return FRAMING_INCOMPLETE;
    size = (size_t)(end - rest->data);
    if (size == 0 || end[-1] != '\r')
        return FRAMING_LINE_END;
    *out_line = (struct text){rest->data, size - 1};
    *rest = (struct text){end + 1, rest->size - size - 1};
    return FRAMING_OK;
}

/* "METHOD target HTTP/1.x", one space each. */
static enum framing_verdict check_request_line(struct text line, struct text *out_method,
                                               struct framing_head *head)
{
    static const char version[] = " HTTP/1.";
    const size_t version_size = sizeof(version) - 1;
    const char *space = memchr(line.data, ' ', line.size);
    struct text target;
    char minor;

    if (!space || line.size < version_size + 1)
        return FRAMING_REQUEST_LINE;
    minor = line.data[line.size - 1];
    if (memcmp(line.data + line.size - 1 - version_size, version, version_size) != 0 ||
        (minor != '0' && minor != '1'))
        return FRAMING_VERSION;
    *out_method = (struct text){line.data, (size_t)(space - line.data)};
    if (space >= line.data + line.size - 1 - version_size)
        return FRAMING_REQUEST_LINE;
    target = (struct text){space + 1, line.size - out_method->size - 2 - version_size};
    if (out_method->size == 0 || !all_are(*out_method, IS_TOKEN))
        return FRAMING_REQUEST_LINE;
    if (target.size == 0 || target.data[0] != '/' || !all_are(target, IS_TARGET))
        return FRAMING_REQUEST_LINE;
    head->is_http10 = minor == '0';
    return FRAMING_OK;
}

static struct text trimmed(struct text text)
{
    while (text.size && (text.data[0] == ' ' || text.data[0] == '\t'))
        text = (struct text){text.data + 1, text.size - 1};
    while (text.size && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t'))
        text.size--;
    return text;
}

static enum framing_verdict check_length(struct text value, struct counts *counts,
                                         struct framing_head *head)
{
    if (++counts->lengths > 1 || value.size > LENGTH_DIGITS ||
        (value.size > 1 && value.data[0] == '0') || !text_to_u64(value, &head->content_length))
        return FRAMING_CONTENT_LENGTH;
    head->has_length = true;
    return FRAMING_OK;
}

static enum framing_verdict check_encoding(struct text value, struct counts *counts,
                                           struct framing_head *head)
{
    if (++counts->encodings > 1 || !same_ignoring_case(value, "chunked", 7))
        return FRAMING_TRANSFER_ENCODING;
    head->is_chunked = true;
    return FRAMING_OK;
}

static enum framing_verdict check_header(struct text line, struct counts *counts,
                                         struct framing_head *head)
{
    struct text name = {line.data, 0};
    struct text value;

    if (line.data[0] == ' ' || line.data[0] == '\t')
        return FRAMING_FOLDED;
    while (name.size < line.size && classes[(unsigned char)line.data[name.size]] & IS_TOKEN)
        name.size++;
    if (name.size == 0 || name.size == line.size || line.data[name.size] != ':')
        return FRAMING_HEADER_NAME;
    value = (struct text){line.data + name.size + 1, line.size - name.size - 1};
    if (!is_value(value))
        return FRAMING_HEADER_VALUE;
    value = trimmed(value);
    if (same_ignoring_case(name, "content-length", 14))
        return check_length(value, counts, head);
    if (same_ignoring_case(name, "transfer-encoding", 17))
        return check_encoding(value, counts, head);
    if (same_ignoring_case(name, "host", 4)) {
        counts->hosts++;
        return value.size && all_are(value, IS_HOST) ? FRAMING_OK : FRAMING_HOST;
    }
    return FRAMING_OK;
}

static bool gives_body_no_meaning(struct text method)
{
    return text_equal_string(method, "GET") || text_equal_string(method, "HEAD") ||
           text_equal_string(method, "TRACE") || text_equal_string(method, "CONNECT");
}

static enum framing_verdict check_whole(struct text method, const struct counts *counts,
                                        const struct framing_head *head)
{
    if (counts->hosts > 1 || (counts->hosts == 0 && !head->is_http10))
        return FRAMING_HOST;
    if (head->is_chunked && head->has_length)
        return FRAMING_TWO_LENGTHS;
    if (head->is_chunked && head->is_http10)
        return FRAMING_TRANSFER_ENCODING;
    if ((head->is_chunked || head->content_length) && gives_body_no_meaning(method))
        return FRAMING_UNEXPECTED_BODY;
    return FRAMING_OK;
}

static enum framing_verdict check_lines(struct text bytes, struct framing_head *head)
{
    struct counts counts = {0};
    struct text rest = bytes;
    struct text method = {0};
    struct text line;
    enum framing_verdict verdict = next_line(&rest, &line);

    /* RFC 9112 2.2: one empty line before the request line is to be ignored. */
    if (verdict == FRAMING_OK && line.size == 0)
        verdict = next_line(&rest, &line);
    if (verdict == FRAMING_OK)
        verdict = check_request_line(line, &method, head);
    while (verdict == FRAMING_OK) {
        verdict = next_line(&rest, &line);
        if (verdict != FRAMING_OK)
            return verdict;
        if (line.size == 0)
            break;
        verdict = check_header(line, &counts, head);
    }
    if (verdict != FRAMING_OK)
        return verdict;
    head->size = (size_t)(rest.data - bytes.data);
    return check_whole(method, &counts, head);
}

enum framing_verdict framing_guard_check(const char *bytes, size_t size, size_t max_head,
                                         struct framing_head *out_head)
{
    struct framing_head head = {0};
    struct text visible = {bytes, size < max_head ? size : max_head};
    enum framing_verdict verdict = check_lines(visible, &head);

    if (verdict == FRAMING_INCOMPLETE && size >= max_head)
        return FRAMING_TOO_LARGE;
    if (verdict == FRAMING_OK)
        *out_head = head;
    return verdict;
}

const char *framing_verdict_name(enum framing_verdict verdict)
{
    static const char *const names[] = {
        [FRAMING_OK] = "ok",
        [FRAMING_INCOMPLETE] = "incomplete",
        [FRAMING_TOO_LARGE] = "headers_too_large",
        [FRAMING_LINE_END] = "line_end",
        [FRAMING_REQUEST_LINE] = "request_line",
        [FRAMING_VERSION] = "version",
        [FRAMING_FOLDED] = "folded_header",
        [FRAMING_HEADER_NAME] = "header_name",
        [FRAMING_HEADER_VALUE] = "header_value",
        [FRAMING_HOST] = "host",
        [FRAMING_CONTENT_LENGTH] = "content_length",
        [FRAMING_TRANSFER_ENCODING] = "transfer_encoding",
        [FRAMING_TWO_LENGTHS] = "two_lengths",
        [FRAMING_UNEXPECTED_BODY] = "unexpected_body",
    };

    return names[verdict];
}
