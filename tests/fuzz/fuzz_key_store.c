/*
 * The keys file: what is read is written as it was, and read again as the same.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "bridge/runtime/checked_json.h"
#include "bridge/subscriptions/key_store_format.h"
#include "bridge/subscriptions/stored_account.h"
#include "schemas/json_reader.h"
#include "tests/fuzz/fuzz.h"

static bool parse(struct text content, struct stored_account **out_records, size_t *out_count)
{
    char *padded = fuzz_copy(content.data, content.size, JSON_PADDING);
    struct error err;
    int rc;

    rc = key_store_parse((struct text){padded, content.size}, out_records, out_count, &err);
    free(padded);
    return rc == 0;
}

static void release(struct stored_account *records, size_t count)
{
    for (size_t i = 0; i < count; i++)
        stored_account_release(&records[i]);
    free(records);
}

static void check(struct text content)
{
    struct stored_account *records;
    struct stored_account *again;
    struct buf written = {0};
    struct buf rewritten = {0};
    size_t count;
    size_t again_count;

    if (!parse(content, &records, &count))
        return;
    key_store_format(records, count, &written);
    MUST(parse(buf_text(&written), &again, &again_count) && again_count == count);
    key_store_format(again, again_count, &rewritten);
    MUST(text_equal(buf_text(&written), buf_text(&rewritten)));
    release(records, count);
    release(again, again_count);
    buf_release(&written);
    buf_release(&rewritten);
}

/* As it is, and as the records of a file whose checksum is right. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text content = {(const char *)data, size};
    struct buf file = {0};

    check(content);
    checked_json_append(fuzz_trimmed(data, size), &file);
    check(buf_text(&file));
    buf_release(&file);
    return 0;
}
