/*
 * Whatever is written is a point in time from 1970 on, or is explained.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "bridge/base/error.h"
#include "bridge/config/moment.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text text = {(const char *)data, size};
    struct error err = {0};
    int64_t ms = -1;

    if (moment_parse(text, INT64_C(1756970837674), &ms, &err) == 0)
        MUST(ms >= 0);
    else
        MUST(ms == -1 && err.kind == ERROR_INPUT && err.message[0] != '\0');
    return 0;
}
