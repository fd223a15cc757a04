#include "bridge/webhook/trace_context.h"

enum { PARENT_SIZE = 55, PARENT_MAX = 128, STATE_MAX = 512 };

static bool is_hex(struct text value, size_t start, size_t size)
{
    for (size_t i = start; i < start + size; i++) {
        char c = value.data[i];

        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
    }
    return true;
}

static bool is_zero(struct text value, size_t start, size_t size)
{
    for (size_t i = start; i < start + size; i++) {
        if (value.data[i] != '0')
            return false;
    }
    return true;
}

static bool is_printable(struct text value)
{
    for (size_t i = 0; i < value.size; i++) {
        if (value.data[i] < 0x20 || value.data[i] > 0x7e)
            return false;
    }
    return true;
}

bool trace_context_is_parent(struct text value)
{
    if (value.size < PARENT_SIZE || value.size > PARENT_MAX || !is_printable(value))
        return false;
    if (value.data[2] != '-' || value.data[35] != '-' || value.data[52] != '-')
        return false;
    if (!is_hex(value, 0, 2) || !is_hex(value, 3, 32) || !is_hex(value, 36, 16) ||
        !is_hex(value, 53, 2))
        return false;
    if (is_zero(value, 3, 32) || is_zero(value, 36, 16))
        return false;
    if (value.data[0] == 'f' && value.data[1] == 'f')
        return false;
    return value.size == PARENT_SIZE || (!is_zero(value, 0, 2) && value.data[PARENT_SIZE] == '-');
}

bool trace_context_is_state(struct text value)
{
    return value.size > 0 && value.size <= STATE_MAX && is_printable(value);
}
