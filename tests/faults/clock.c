/*
 * A wall clock that jumps: preloaded, it adds struct shim_control's clock_offset_s to what the
 * program reads. The monotonic clock and the kernel's own timers are left alone, as they are when a
 * real clock is set, but for waits until a moment of the wall clock (librdkafka's), which stay
 * true.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "tests/faults/shim.h"

static struct shim_control *control;

static void __attribute__((constructor)) start(void)
{
    const char *path = getenv("FAULT_CONTROL");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *memory;

    if (fd < 0)
        return;
    memory = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (memory != MAP_FAILED)
        control = memory;
}

/* libc's headers use reserved names for the parameters.
 * NOLINTBEGIN(readability-inconsistent-declaration-parameter-name) */

int clock_gettime(clockid_t clock, struct timespec *out_time)
{
    int rc = (int)syscall(SYS_clock_gettime, clock, out_time);

    if (rc == 0 && control && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        out_time->tv_sec += atomic_load(&control->clock_offset_s);
    return rc;
}

int gettimeofday(struct timeval *restrict out_time, void *restrict zone)
{
    struct timespec now;

    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    *out_time = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *out_time)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (out_time)
        *out_time = now.tv_sec;
    return now.tv_sec;
}

/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */
