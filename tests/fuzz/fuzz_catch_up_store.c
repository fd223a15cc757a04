/*
 * The catch-up file: what is read is written as it was, and read again as the same.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "bridge/catch_up/catch_up_account.h"
#include "bridge/catch_up/catch_up_store.h"
#include "bridge/runtime/checked_json.h"
#include "schemas/json_reader.h"
#include "tests/fuzz/fuzz.h"

static bool parse(struct text content, struct catch_up_account **out_accounts)
{
    char *padded = fuzz_copy(content.data, content.size, JSON_PADDING);
    struct error err;
    int rc;

    rc = catch_up_store_parse((struct text){padded, content.size}, out_accounts, &err);
    free(padded);
    return rc == 0;
}

static void release(struct catch_up_account *account)
{
    while (account) {
        struct catch_up_account *next = account->next;

        catch_up_account_free(account);
        account = next;
    }
}

static void check(struct text content)
{
    struct catch_up_account *accounts;
    struct catch_up_account *again;
    struct buf written = {0};
    struct buf rewritten = {0};

    if (!parse(content, &accounts))
        return;
    catch_up_store_format(accounts, &written);
    MUST(parse(buf_text(&written), &again));
    catch_up_store_format(again, &rewritten);
    MUST(text_equal(buf_text(&written), buf_text(&rewritten)));
    release(accounts);
    release(again);
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
