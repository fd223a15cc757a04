/*
 * The lines of an answer's head: whatever they say, a wait stays within its bounds.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/close/close_headers.h"
#include "tests/fuzz/fuzz.h"

static void check_wait(int64_t ms)
{
    if (ms < -1 || ms > CLOSE_WAIT_MAX_MS)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text rest = {(const char *)data, size};
    struct close_headers headers = {0};

    while (rest.size > 0) {
        const char *end = memchr(rest.data, '\n', rest.size);
        struct text line = {rest.data, end ? (size_t)(end - rest.data) + 1 : rest.size};

        close_headers_read(&headers, line);
        check_wait(close_headers_wait_ms(&headers, true));
        check_wait(close_headers_wait_ms(&headers, false));
        rest.data += line.size;
        rest.size -= line.size;
    }
    if (headers.has_date && headers.date_ms % 1000 != 0)
        abort();
    return 0;
}
