#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/http/framing_guard.h"

enum { MAX_HEAD = 1024 };

#define POST "POST / HTTP/1.1\r\nHost: a\r\n"
#define GET "GET / HTTP/1.1\r\nHost: a\r\n"
#define HEAD(bytes, verdict)                                                                       \
    {                                                                                              \
        bytes, sizeof(bytes) - 1, FRAMING_##verdict                                                \
    }

static const struct {
    const char *bytes;
    size_t size;
    enum framing_verdict expected;
} cases[] = {
    HEAD(GET "\r\n", OK),
    HEAD(POST "\r\n", OK),
    HEAD(POST "Content-Length: 5\r\n\r\nhello", OK),
    HEAD(POST "content-length:5\r\n\r\nhello", OK),
    HEAD(POST "Content-Length: \t5 \t\r\n\r\nhello", OK),
    HEAD(POST "Content-Length: 0\r\n\r\n", OK),
    HEAD(POST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", OK),
    HEAD(POST "transfer-encoding: CHUNKED\r\n\r\n0\r\n\r\n", OK),
    HEAD("\r\n" GET "\r\n", OK),
    HEAD("GET /a?b=%20&c=\"|{} HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", OK),
    HEAD("GET / HTTP/1.0\r\n\r\n", OK),
    HEAD("GET / HTTP/1.0\r\nHost: a\r\n\r\n", OK),
    HEAD(GET "X: \xc3\xa4 \t!\r\nEmpty:\r\n\r\n", OK),
    HEAD(GET "\r\n\n\n\0anything behind the head is not looked at", OK),

    HEAD("", INCOMPLETE),
    HEAD("GET / HTTP/1.1", INCOMPLETE),
    HEAD(GET, INCOMPLETE),
    HEAD(GET "\r", INCOMPLETE),

    /* Line ends */
    HEAD("GET / HTTP/1.1\nHost: a\r\n\r\n", LINE_END),
    HEAD("GET / HTTP/1.1\r\nHost: a\n\r\n", LINE_END),
    HEAD(GET "\n", LINE_END),
    HEAD("\n" GET "\r\n", LINE_END),
    HEAD(GET "\r\r\n\r\n", HEADER_NAME),
    HEAD(GET "X: a\r\r\n\r\n", HEADER_VALUE),
    HEAD(GET "X: a\rY: b\r\n\r\n", HEADER_VALUE),
    HEAD("\r\n\r\n" GET "\r\n", REQUEST_LINE),

    /* Request line */
    HEAD("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", REQUEST_LINE),
    HEAD("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", REQUEST_LINE),
    HEAD("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", REQUEST_LINE),
    HEAD(" GET / HTTP/1.1\r\nHost: a\r\n\r\n", REQUEST_LINE),
    HEAD("G\tT / HTTP/1.1\r\nHost: a\r\n\r\n", REQUEST_LINE),
    HEAD("GET HTTP/1.1\r\nHost: a\r\n\r\n", REQUEST_LINE),
    HEAD("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", REQUEST_LINE),
    HEAD("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", REQUEST_LINE),
    HEAD("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", REQUEST_LINE),
    HEAD("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", REQUEST_LINE),
    HEAD("GET /#f HTTP/1.1\r\nHost: a\r\n\r\n", REQUEST_LINE),
    HEAD("GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", REQUEST_LINE),
    HEAD("GET /\t HTTP/1.1\r\nHost: a\r\n\r\n", REQUEST_LINE),
    HEAD("GET\r\n\r\n", REQUEST_LINE),

    /* Version */
    HEAD("GET / HTTP/1.2\r\nHost: a\r\n\r\n", VERSION),
    HEAD("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", VERSION),
    HEAD("GET / HTTP/2.0\r\nHost: a\r\n\r\n", VERSION),
    HEAD("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", VERSION),
    HEAD("GET / http/1.1\r\nHost: a\r\n\r\n", VERSION),
    HEAD("GET / HTTP/1.10\r\nHost: a\r\n\r\n", VERSION),
    HEAD("GET /index.html\r\n\r\n", VERSION),

    /* Headers */
    HEAD(GET "X: a\r\n b\r\n\r\n", FOLDED),
    HEAD(GET "X: a\r\n\tb\r\n\r\n", FOLDED),
    HEAD("GET / HTTP/1.1\r\n Host: a\r\n\r\n", FOLDED),
    HEAD(GET "X : a\r\n\r\n", HEADER_NAME),
    HEAD(GET "X\t: a\r\n\r\n", HEADER_NAME),
    HEAD(GET ": a\r\n\r\n", HEADER_NAME),
    HEAD(GET "no colon\r\n\r\n", HEADER_NAME),
    HEAD(GET "X\0Y: a\r\n\r\n", HEADER_NAME),
    HEAD(GET "X(): a\r\n\r\n", HEADER_NAME),
    HEAD(GET "\xc3\xa4: a\r\n\r\n", HEADER_NAME),
    HEAD(GET "X: a\0b\r\n\r\n", HEADER_VALUE),
    HEAD(GET "X: a\x7f\r\n\r\n", HEADER_VALUE),
    HEAD(GET "X: \x1b[1m\r\n\r\n", HEADER_VALUE),

    /* Host */
    HEAD("GET / HTTP/1.1\r\n\r\n", HOST),
    HEAD(GET "Host: a\r\n\r\n", HOST),
    HEAD(GET "hOST: b\r\n\r\n", HOST),
    HEAD("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", HOST),
    HEAD("GET / HTTP/1.1\r\nHost: \r\n\r\n", HOST),
    HEAD("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", HOST),
    HEAD("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", HOST),
    HEAD("GET / HTTP/1.1\r\nHost: x@a\r\n\r\n", HOST),

    /* Content-Length */
    HEAD(POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", CONTENT_LENGTH),
    HEAD(POST "Content-Length: 5\r\ncontent-length: 6\r\n\r\nhello!", CONTENT_LENGTH),
    HEAD(POST "Content-Length: 5, 5\r\n\r\nhello", CONTENT_LENGTH),
    HEAD(POST "Content-Length: +5\r\n\r\nhello", CONTENT_LENGTH),
    HEAD(POST "Content-Length: -5\r\n\r\nhello", CONTENT_LENGTH),
    HEAD(POST "Content-Length: 5 5\r\n\r\nhello", CONTENT_LENGTH),
    HEAD(POST "Content-Length: 05\r\n\r\nhello", CONTENT_LENGTH),
    HEAD(POST "Content-Length: 0x5\r\n\r\nhello", CONTENT_LENGTH),
    HEAD(POST "Content-Length: 5.0\r\n\r\nhello", CONTENT_LENGTH),
    HEAD(POST "Content-Length: 5;\r\n\r\nhello", CONTENT_LENGTH),
    HEAD(POST "Content-Length: \r\n\r\n", CONTENT_LENGTH),
    HEAD(POST "Content-Length: five\r\n\r\n", CONTENT_LENGTH),
    HEAD(POST "Content-Length: 18446744073709551616\r\n\r\n", CONTENT_LENGTH),
    HEAD(POST "Content-Length: 1000000000000000000\r\n\r\n", CONTENT_LENGTH),

    /* Transfer-Encoding */
    HEAD(POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", TWO_LENGTHS),
    HEAD(POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", TWO_LENGTHS),
    HEAD(POST "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n", TWO_LENGTHS),
    HEAD(POST "Content-Length: x\r\nTransfer-Encoding: chunked\r\n\r\n", CONTENT_LENGTH),
    HEAD(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
         TRANSFER_ENCODING),
    HEAD(POST "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n",
         TRANSFER_ENCODING),
    HEAD(POST "Transfer-Encoding: identity\r\n\r\n", TRANSFER_ENCODING),
    HEAD(POST "Transfer-Encoding: gzip, chunked\r\n\r\n", TRANSFER_ENCODING),
    HEAD(POST "Transfer-Encoding: chunked, chunked\r\n\r\n", TRANSFER_ENCODING),
    HEAD(POST "Transfer-Encoding: chunked;q=1\r\n\r\n", TRANSFER_ENCODING),
    HEAD(POST "Transfer-Encoding: \"chunked\"\r\n\r\n", TRANSFER_ENCODING),
    HEAD(POST "Transfer-Encoding: xchunked\r\n\r\n", TRANSFER_ENCODING),
    HEAD(POST "Transfer-Encoding: \x0b"
              "chunked\r\n\r\n",
         HEADER_VALUE),
    HEAD(POST "Transfer-Encoding:\r\n\r\n", TRANSFER_ENCODING),
    HEAD(POST "Transfer-Encoding : chunked\r\n\r\n", HEADER_NAME),
    HEAD(POST "Transfer-Encoding:\r\n chunked\r\n\r\n", TRANSFER_ENCODING),
    HEAD("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", TRANSFER_ENCODING),

    /* Bodies without a meaning */
    HEAD(GET "Content-Length: 5\r\n\r\nhello", UNEXPECTED_BODY),
    HEAD(GET "Transfer-Encoding: chunked\r\n\r\n", UNEXPECTED_BODY),
    HEAD("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", UNEXPECTED_BODY),
    HEAD(GET "Content-Length: 0\r\n\r\n", OK),
};

static enum framing_verdict check(const char *bytes, size_t size, struct framing_head *head)
{
    /* An exact copy, so that the sanitizers see a read beyond it. */
    char *copy = malloc(size ? size : 1);
    enum framing_verdict verdict;

    assert_non_null(copy);
    memcpy(copy, bytes, size);
    verdict = framing_guard_check(copy, size, MAX_HEAD, head);
    free(copy);
    return verdict;
}

static void every_case_has_its_verdict(void **state)
{
    (void)state;
    assert_true(sizeof(cases) / sizeof(cases[0]) >= 60);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct framing_head head = {0};
        enum framing_verdict verdict = check(cases[i].bytes, cases[i].size, &head);

        if (verdict != cases[i].expected)
            print_error("case %zu: %s\n%s\n", i, framing_verdict_name(verdict), cases[i].bytes);
        assert_int_equal(verdict, cases[i].expected);
    }
}

static void a_head_that_is_cut_is_never_allowed(void **state)
{
    static const char head[] = POST "Content-Length: 5\r\nX: y\r\n\r\n";
    struct framing_head out = {0};

    (void)state;
    for (size_t size = 0; size < sizeof(head) - 1; size++)
        assert_int_not_equal(check(head, size, &out), FRAMING_OK);
    assert_int_equal(check(head, sizeof(head) - 1, &out), FRAMING_OK);
}

static void the_head_is_described(void **state)
{
    static const char length[] = POST "Content-Length: 42\r\n\r\nbody";
    static const char chunked[] = POST "Transfer-Encoding: chunked\r\n\r\nbody";
    struct framing_head head = {0};

    (void)state;
    assert_int_equal(check(length, sizeof(length) - 1, &head), FRAMING_OK);
    assert_int_equal(head.size, sizeof(length) - 1 - 4);
    assert_true(head.has_length && !head.is_chunked && !head.is_http10);
    assert_int_equal(head.content_length, 42);
    assert_int_equal(check(chunked, sizeof(chunked) - 1, &head), FRAMING_OK);
    assert_int_equal(head.size, sizeof(chunked) - 1 - 4);
    assert_true(!head.has_length && head.is_chunked);
    assert_int_equal(head.content_length, 0);
}

static void the_size_of_a_head_is_limited_to_the_byte(void **state)
{
    char head[MAX_HEAD + 2];
    struct framing_head out;
    size_t start = sizeof(GET "X: ") - 1;

    (void)state;
    memset(head, 'x', sizeof(head));
    memcpy(head, GET "X: ", start);
    memcpy(head + MAX_HEAD - 4, "\r\n\r\n", 4);
    assert_int_equal(check(head, MAX_HEAD, &out), FRAMING_OK);
    memset(head + start, 'x', sizeof(head) - start);
    memcpy(head + MAX_HEAD - 3, "\r\n\r\n", 4);
    assert_int_equal(check(head, MAX_HEAD + 1, &out), FRAMING_TOO_LARGE);
    assert_int_equal(check(head, MAX_HEAD - 1, &out), FRAMING_INCOMPLETE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_has_its_verdict),
        cmocka_unit_test(a_head_that_is_cut_is_never_allowed),
        cmocka_unit_test(the_head_is_described),
        cmocka_unit_test(the_size_of_a_head_is_limited_to_the_byte),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
