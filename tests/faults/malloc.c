/*
 * Memory that runs out: preloaded, it lets one allocation fail, or all from there on, when
 * struct shim_control says so. FAULT_PROGRAM names the program in which it does; what starts that
 * program, and loads this too, is left alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/faults/shim.h"

/* glibc's own, under the names that it keeps for those who put themselves before malloc(). */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static struct shim_control *control; /* NULL: nothing fails */

static void __attribute__((constructor)) start(void)
{
    const char *path = getenv("FAULT_CONTROL");
    const char *program = getenv("FAULT_PROGRAM");
    void *memory;
    int fd;

    if (!path || !program || strcmp(program, program_invocation_short_name) != 0)
        return;
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    memory = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (memory != MAP_FAILED)
        control = memory;
}

static bool fails(void)
{
    uint32_t left;

    if (!control)
        return false;
    left = atomic_load(&control->malloc_after);
    do {
        if (left == 0)
            return false;
        if (left == 1 && atomic_load(&control->malloc_for_ever))
            break;
    } while (!atomic_compare_exchange_weak(&control->malloc_after, &left, left - 1));
    if (left != 1)
        return false;
    atomic_fetch_add(&control->malloc_fired, 1);
    errno = ENOMEM;
    return true;
}

/* libc's headers use reserved names for the parameters.
 * NOLINTBEGIN(readability-inconsistent-declaration-parameter-name) */

void *malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    return fails() ? NULL : __libc_realloc(memory, size);
}

void *memalign(size_t alignment, size_t size)
{
    return fails() ? NULL : __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

int posix_memalign(void **out_memory, size_t alignment, size_t size)
{
    *out_memory = memalign(alignment, size);
    return *out_memory ? 0 : ENOMEM;
}

/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */
