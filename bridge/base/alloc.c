#include "bridge/base/alloc.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/log.h"

static void *or_abort(void *memory, size_t size)
{
    if (memory)
        return memory;
    log_error("process.out_of_memory", log_i64("bytes", (int64_t)size));
    abort();
}

void *alloc_bytes(size_t size)
{
    return or_abort(malloc(size ? size : 1), size);
}

void *alloc_again(void *memory, size_t size)
{
    return or_abort(realloc(memory, size ? size : 1), size);
}

void *alloc_zeroed(size_t count, size_t size)
{
    return or_abort(calloc(count ? count : 1, size), count * size);
}

char *alloc_string(const char *string)
{
    return or_abort(strdup(string), strlen(string));
}
