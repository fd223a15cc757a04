#include "bridge/runtime/checked_json.h"

#include <inttypes.h>
#include <stdio.h>

#include <xxhash.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "schemas/json_compare.h"
#include "schemas/json_reader.h"
#include "schemas/json_scan.h"

enum { VERSION = 1, CHECK_SIZE = 16 /* hex digits */ };

static void checksum(struct text accounts, char out[CHECK_SIZE + 1])
{
    snprintf(out, CHECK_SIZE + 1, "%016" PRIx64,
             (uint64_t)XXH3_64bits(accounts.data, accounts.size));
}

void checked_json_append(struct text accounts, struct buf *out)
{
    char check[CHECK_SIZE + 1];

    checksum(accounts, check);
    buf_reserve(out, accounts.size + 256); /* growing would leave copies of secrets behind */
    buf_printf(out, "{\"version\":%d,\"check\":\"%s\",\n\"accounts\":", VERSION, check);
    buf_append_text(out, accounts);
    buf_append_string(out, "}\n");
}

static int check_content(struct text document, struct text accounts, struct error *err)
{
    struct text check = json_member(document, "check");
    char expected[CHECK_SIZE + 1];
    uint64_t version;

    if (!text_to_u64(json_member(document, "version"), &version))
        return error_set(err, ERROR_INPUT, "it is damaged: it has no version");
    if (version > VERSION)
        return error_set(err, ERROR_CONFIG,
                         "a later version of close-bridge wrote it: run that one");
    if (!json_is_string(check) || !accounts.data)
        return error_set(err, ERROR_INPUT, "it is damaged: a part is missing");
    checksum(accounts, expected);
    if (!text_equal_string(json_string_inside(check), expected))
        return error_set(err, ERROR_INPUT, "it is damaged: its checksum is wrong");
    return 0;
}

int checked_json_read(struct text content, struct text *out_accounts, struct error *err)
{
    struct json_reader *reader = json_reader_new();
    enum json_verdict verdict =
        reader ? json_reader_check(reader, content.data, content.size) : JSON_NO_MEMORY;
    struct text accounts;

    json_reader_free(reader);
    if (verdict == JSON_NO_MEMORY)
        return error_set(err, ERROR_FATAL, "out of memory");
    if (verdict != JSON_VALID)
        return error_set(err, ERROR_INPUT, "it is damaged: it is not JSON");
    accounts = json_member(json_document(content), "accounts");
    if (check_content(json_document(content), accounts, err) < 0)
        return -1;
    *out_accounts = accounts;
    return 0;
}
