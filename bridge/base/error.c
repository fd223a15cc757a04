#include "bridge/base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *err, enum error_kind kind, const char *fmt, ...)
{
    va_list args;

    if (!err)
        return -1;
    err->kind = kind;
    va_start(args, fmt);
    vsnprintf(err->message, sizeof(err->message), fmt, args);
    va_end(args);
    return -1;
}

int error_context(struct error *err, const char *fmt, ...)
{
    char old[sizeof(err->message)];
    size_t length;
    va_list args;

    if (!err)
        return -1;
    memcpy(old, err->message, sizeof(old));
    va_start(args, fmt);
    vsnprintf(err->message, sizeof(err->message), fmt, args);
    va_end(args);
    length = strlen(err->message);
    snprintf(err->message + length, sizeof(err->message) - length, ": %s", old);
    return -1;
}
