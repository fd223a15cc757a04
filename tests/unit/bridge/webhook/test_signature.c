#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/error.h"
#include "bridge/webhook/signature.h"

/* The third-party vector of tests/data: key, timestamp and hash belong to vector-A. */
#define VECTOR_KEY "b9260244ef33625f9b4b26a27db08758cdd39478b852c73f2d33ab042eb8abb4"
#define VECTOR_TIMESTAMP "1557751596"
#define VECTOR_HASH "e6cf27a55de463dc46d8b5c16d2afe74d766e8f0c9892422c93573521cd377ed"
/* What comes out when the key is taken as ASCII, as some senders wrongly do. */
#define ASCII_KEY_HASH "59913793034b5fd9c60cdc5599ce5461eb6900e7d8517946eafcf18aaf82568e"

static const int64_t vector_ms = INT64_C(1557751596000);

static char body_bytes[65536];
static struct text body;

static int read_body(void **state)
{
    FILE *file = fopen(TEST_DATA "/payloads/vector-A-thermondo.body.json", "rb");

    (void)state;
    if (!file)
        return -1;
    body = (struct text){body_bytes, fread(body_bytes, 1, sizeof(body_bytes), file)};
    fclose(file);
    return body.size ? 0 : -1;
}

static struct signature_verifier *verifier_with(const char *const *hex_keys, size_t count,
                                                int64_t window_ms)
{
    unsigned char keys[4][SIGNATURE_KEY_SIZE];
    struct error err = {0};
    struct signature_verifier *verifier;

    for (size_t i = 0; i < count; i++)
        assert_true(text_from_hex(text_of(hex_keys[i]), keys[i], SIGNATURE_KEY_SIZE));
    verifier = signature_verifier_new((const unsigned char(*)[SIGNATURE_KEY_SIZE])keys, count,
                                      window_ms, &err);
    assert_non_null(verifier);
    return verifier;
}

static void headers_decide_the_result(void **state)
{
    static const char *const key = VECTOR_KEY;
    static const struct {
        const char *hash;
        const char *timestamp;
        enum signature_result expected;
    } cases[] = {
        {VECTOR_HASH, VECTOR_TIMESTAMP, SIGNATURE_OK},
        {"E6CF27A55DE463DC46D8B5C16D2AFE74D766E8F0C9892422C93573521CD377ED", VECTOR_TIMESTAMP,
         SIGNATURE_OK},
        {ASCII_KEY_HASH, VECTOR_TIMESTAMP, SIGNATURE_BAD},
        {VECTOR_HASH, "1557751597", SIGNATURE_BAD},
        {VECTOR_HASH, "01557751596", SIGNATURE_BAD},
        {"f6cf27a55de463dc46d8b5c16d2afe74d766e8f0c9892422c93573521cd377ed", VECTOR_TIMESTAMP,
         SIGNATURE_BAD},
        {NULL, VECTOR_TIMESTAMP, SIGNATURE_MISSING},
        {VECTOR_HASH, NULL, SIGNATURE_MISSING},
        {"", VECTOR_TIMESTAMP, SIGNATURE_MALFORMED},
        {VECTOR_HASH "0", VECTOR_TIMESTAMP, SIGNATURE_MALFORMED},
        {"6cf27a55de463dc46d8b5c16d2afe74d766e8f0c9892422c93573521cd377ed", VECTOR_TIMESTAMP,
         SIGNATURE_MALFORMED},
        {"sha256=e6cf27a55de463dc46d8b5c16d2afe74d766e8f0c9892422c93573521c", VECTOR_TIMESTAMP,
         SIGNATURE_MALFORMED},
        {"g6cf27a55de463dc46d8b5c16d2afe74d766e8f0c9892422c93573521cd377ed", VECTOR_TIMESTAMP,
         SIGNATURE_MALFORMED},
        {VECTOR_HASH, "", SIGNATURE_MALFORMED},
        {VECTOR_HASH, "+1557751596", SIGNATURE_MALFORMED},
        {VECTOR_HASH, "-1557751596", SIGNATURE_MALFORMED},
        {VECTOR_HASH, " 1557751596", SIGNATURE_MALFORMED},
        {VECTOR_HASH, "1557751596.0", SIGNATURE_MALFORMED},
        {VECTOR_HASH, "0x5cd96f2c", SIGNATURE_MALFORMED},
        {VECTOR_HASH, "1557751596000", SIGNATURE_MALFORMED},
        {VECTOR_HASH, "15577515960000000000000000", SIGNATURE_MALFORMED},
    };
    struct signature_verifier *verifier = verifier_with(&key, 1, 3600000);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct signature_claim claim = {text_of(cases[i].hash), text_of(cases[i].timestamp)};

        assert_int_equal(signature_verify(verifier, &claim, body, vector_ms), cases[i].expected);
    }
    signature_verifier_free(verifier);
}

static void every_byte_of_the_body_counts(void **state)
{
    static const char *const key = VECTOR_KEY;
    struct signature_claim claim = {text_of(VECTOR_HASH), text_of(VECTOR_TIMESTAMP)};
    struct signature_verifier *verifier = verifier_with(&key, 1, 0);
    struct text shorter = {body.data, body.size - 1};

    (void)state;
    for (size_t i = 0; i < body.size; i++) {
        body_bytes[i] ^= 1;
        assert_int_equal(signature_verify(verifier, &claim, body, 0), SIGNATURE_BAD);
        body_bytes[i] ^= 1;
    }
    assert_int_equal(signature_verify(verifier, &claim, shorter, 0), SIGNATURE_BAD);
    assert_int_equal(signature_verify(verifier, &claim, (struct text){"", 0}, 0), SIGNATURE_BAD);
    assert_int_equal(signature_verify(verifier, &claim, body, 0), SIGNATURE_OK);
    signature_verifier_free(verifier);
}

static void any_of_several_keys_verifies(void **state)
{
    static const char zeros[] = "0000000000000000000000000000000000000000000000000000000000000000";
    static const char ones[] = "1111111111111111111111111111111111111111111111111111111111111111";
    const char *const orders[][3] = {
        {VECTOR_KEY, zeros, ones}, {zeros, VECTOR_KEY, ones}, {zeros, ones, VECTOR_KEY}};
    struct signature_claim claim = {text_of(VECTOR_HASH), text_of(VECTOR_TIMESTAMP)};
    struct signature_verifier *verifier;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        verifier = verifier_with(orders[i], 3, 0);
        assert_int_equal(signature_verify(verifier, &claim, body, 0), SIGNATURE_OK);
        assert_int_equal(signature_verify(verifier, &claim, body, 0), SIGNATURE_OK);
        signature_verifier_free(verifier);
    }
    verifier = verifier_with(orders[1], 1, 0);
    assert_int_equal(signature_verify(verifier, &claim, body, 0), SIGNATURE_BAD);
    signature_verifier_free(verifier);
}

static void without_keys_nothing_verifies(void **state)
{
    struct signature_claim claim = {text_of(VECTOR_HASH), text_of(VECTOR_TIMESTAMP)};
    struct signature_verifier *verifier = verifier_with(NULL, 0, 0);

    (void)state;
    assert_int_equal(signature_verify(verifier, &claim, body, 0), SIGNATURE_NO_KEYS);
    signature_verifier_free(verifier);
}

static void the_replay_window_reaches_both_ways(void **state)
{
    static const char *const key = VECTOR_KEY;
    static const struct {
        int64_t window_ms;
        int64_t now_offset_ms;
        enum signature_result expected;
    } cases[] = {
        {300000, 300000, SIGNATURE_OK},
        {300000, 300001, SIGNATURE_STALE},
        {300000, -300000, SIGNATURE_OK},
        {300000, -300001, SIGNATURE_STALE},
        {0, INT64_C(1) << 50, SIGNATURE_OK}, /* off */
        {INT64_C(80) * 3600000, INT64_C(70) * 3600000, SIGNATURE_OK},
        {INT64_C(80) * 3600000, INT64_C(90) * 3600000, SIGNATURE_STALE},
    };
    struct signature_claim claim = {text_of(VECTOR_HASH), text_of(VECTOR_TIMESTAMP)};
    struct signature_claim forged = {text_of(ASCII_KEY_HASH), text_of(VECTOR_TIMESTAMP)};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct signature_verifier *verifier = verifier_with(&key, 1, cases[i].window_ms);
        int64_t now_ms = vector_ms + cases[i].now_offset_ms;

        assert_int_equal(signature_verify(verifier, &claim, body, now_ms), cases[i].expected);
        assert_int_equal(signature_verify(verifier, &forged, body, now_ms), SIGNATURE_BAD);
        signature_verifier_free(verifier);
    }
}

static void what_is_signed_verifies(void **state)
{
    static const char *const hex_key = VECTOR_KEY;
    static const struct text bodies[] = {{"", 0}, {"{}", 2}, {"\0\xff", 2}};
    struct signature_verifier *verifier = verifier_with(&hex_key, 1, 0);
    unsigned char key[SIGNATURE_KEY_SIZE];
    char hash[65];

    (void)state;
    assert_true(text_from_hex(text_of(hex_key), key, sizeof(key)));
    assert_int_equal(signature_sign(key, text_of(VECTOR_TIMESTAMP), body, hash, NULL), 0);
    assert_string_equal(hash, VECTOR_HASH);
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        struct signature_claim claim = {{hash, 64}, text_of("1")};

        assert_int_equal(signature_sign(key, claim.timestamp, bodies[i], hash, NULL), 0);
        assert_int_equal(signature_verify(verifier, &claim, bodies[i], 0), SIGNATURE_OK);
    }
    signature_verifier_free(verifier);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_decide_the_result),
        cmocka_unit_test(every_byte_of_the_body_counts),
        cmocka_unit_test(any_of_several_keys_verifies),
        cmocka_unit_test(without_keys_nothing_verifies),
        cmocka_unit_test(the_replay_window_reaches_both_ways),
        cmocka_unit_test(what_is_signed_verifies),
    };

    return cmocka_run_group_tests(tests, read_body, NULL);
}
