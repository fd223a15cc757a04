#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "bridge/http/framing_guard.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_HEAD = 4096 };

/* What holds of every head that is allowed, found by other means than the guard's own. */
static void check_allowed(const char *bytes, size_t size, const struct framing_head *head)
{
    unsigned lengths = 0;
    unsigned encodings = 0;

    if (head->size > size || head->size > MAX_HEAD || head->size < 4 ||
        memcmp(bytes + head->size - 4, "\r\n\r\n", 4) != 0)
        abort();
    for (size_t i = 0; i < head->size; i++) {
        if (bytes[i] == '\0' || (bytes[i] == '\n' && bytes[i - 1] != '\r') ||
            (bytes[i] == '\r' && bytes[i + 1] != '\n'))
            abort();
        if (i == 0 || bytes[i - 1] != '\n')
            continue;
        if (bytes[i] == ' ' || bytes[i] == '\t')
            abort();
        lengths += head->size - i > 15 && strncasecmp(bytes + i, "content-length:", 15) == 0;
        encodings += head->size - i > 18 && strncasecmp(bytes + i, "transfer-encoding:", 18) == 0;
    }
    if (lengths + encodings > 1 || (lengths == 1) != head->has_length ||
        (encodings == 1) != head->is_chunked)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct framing_head head;
    char *copy = malloc(size + 1); /* exact: nothing readable behind it but a byte of ours */

    if (!copy)
        return 0;
    memcpy(copy, data, size);
    copy[size] = '\n';
    if (framing_guard_check(copy, size, MAX_HEAD, &head) == FRAMING_OK)
        check_allowed(copy, size, &head);
    free(copy);
    return 0;
}
