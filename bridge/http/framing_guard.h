/*
 * Whether the head of an HTTP/1 request can be read in one way only.
 *
 * The parser behind the listener is lenient: two lengths, a length beside chunks, folded lines,
 * bare line feeds and more are taken (TRAPS H12). Anything that two parsers in a row could read
 * differently is refused here, so that nobody can smuggle a second request past a proxy in front.
 *
 * A pure function over the raw bytes. Header names may already be in lower case.
 */
#ifndef BRIDGE_HTTP_FRAMING_GUARD_H
#define BRIDGE_HTTP_FRAMING_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum framing_verdict {
    FRAMING_OK,
    FRAMING_INCOMPLETE, /* no empty line within `size` */
    FRAMING_TOO_LARGE,  /* no empty line within `max_head` */
    FRAMING_LINE_END,   /* a line feed without carriage return, or the other way round */
    FRAMING_REQUEST_LINE,
    FRAMING_VERSION, /* neither HTTP/1.0 nor HTTP/1.1 */
    FRAMING_FOLDED,  /* a header line that continues the one before */
    FRAMING_HEADER_NAME,
    FRAMING_HEADER_VALUE,
    FRAMING_HOST, /* not exactly one for HTTP/1.1, more than one for 1.0, or malformed */
    FRAMING_CONTENT_LENGTH,
    FRAMING_TRANSFER_ENCODING,
    FRAMING_TWO_LENGTHS,     /* Content-Length and Transfer-Encoding together */
    FRAMING_UNEXPECTED_BODY, /* a body where the method gives it no meaning: GET, HEAD, TRACE */
};

struct framing_head {
    size_t size; /* including the empty line */
    bool is_http10;
    bool has_length;
    bool is_chunked;
    uint64_t content_length; /* 0 without one */
};

/* Looks at the head that `bytes` begins with; what follows it is not read. `out_head` is set with
 * FRAMING_OK only. */
enum framing_verdict framing_guard_check(const char *bytes, size_t size, size_t max_head,
                                         struct framing_head *out_head);

/* A word for logs and metrics. */
const char *framing_verdict_name(enum framing_verdict verdict);

#endif
