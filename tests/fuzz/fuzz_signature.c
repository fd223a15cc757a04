#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "bridge/webhook/signature.h"
#include "bridge/webhook/trace_context.h"
#include "tests/fuzz/fuzz.h"

/* Input: hash, timestamp and body, parted by line feeds. */
static struct text next_part(struct text *rest)
{
    const char *end = memchr(rest->data, '\n', rest->size);
    struct text part = {rest->data, end ? (size_t)(end - rest->data) : rest->size};

    *rest = end ? (struct text){end + 1, rest->size - part.size - 1}
                : (struct text){rest->data + rest->size, 0};
    return part;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned char keys[1][SIGNATURE_KEY_SIZE] = {"0123456789abcdef0123456789abcde"};
    static struct signature_verifier *verifier;
    struct text rest = {(const char *)data, size};
    struct signature_claim claim;
    char expected[65];
    bool is_ours;

    if (!verifier)
        verifier = signature_verifier_new(keys, 1, 0, NULL);
    claim.hash = next_part(&rest);
    claim.timestamp = next_part(&rest);
    (void)trace_context_is_parent(claim.hash);
    (void)trace_context_is_state(claim.timestamp);
    if (signature_sign(keys[0], claim.timestamp, rest, expected, NULL) != 0)
        abort();
    is_ours = claim.hash.size == 64 && strncasecmp(claim.hash.data, expected, 64) == 0;
    if (signature_verify(verifier, &claim, rest, 0) == SIGNATURE_OK && !is_ours)
        abort();
    /* With the right hash only the form of the timestamp can be wrong. */
    claim.hash = text_of(expected);
    if (signature_verify(verifier, &claim, rest, 0) == SIGNATURE_BAD)
        abort();
    return 0;
}
