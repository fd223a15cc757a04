/*
 * Memory for bookkeeping that has no caller to answer to. Without memory the process ends:
 * everything that was promised is on disk, and a restart goes on from there (h2o does the same,
 * TRAPS H17).
 */
#ifndef BRIDGE_BASE_ALLOC_H
#define BRIDGE_BASE_ALLOC_H

#include <stddef.h>

struct text;

/* As malloc() and realloc(), but never NULL. */
void *alloc_bytes(size_t size);
void *alloc_again(void *memory, size_t size);

/* Returns owned (free), zeroed; never NULL. */
void *alloc_zeroed(size_t count, size_t size);

/* Returns owned (free) a terminated copy; never NULL. */
char *alloc_string(const char *string);

#endif
