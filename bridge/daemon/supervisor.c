#include "bridge/daemon/supervisor.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/base/mailbox.h"
#include "bridge/base/thread.h"

enum {
    BEATS_IN_INTERVAL = 4,
    SEND_TIMEOUT_S = 1, /* a manager that does not read holds nothing up for longer */
    MAX_MESSAGE = 256,
};

struct supervisor {
    const struct clock *clock;
    struct sockaddr_un address;
    socklen_t address_size; /* 0: nobody is told */
    int fd;
    int64_t interval_ms; /* 0: no heartbeat is expected */
    int64_t (*busy_ms)(void *context);
    void *context;
    struct wakeup wakeup;
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t lock;    /* nothing is told behind STOPPING=1 */
    atomic_bool is_stopping; /* set under the lock */
    atomic_bool has_failed;  /* to tell: said once */
};

/* ---- the environment ---- */

/* A path, or a name behind @ in the abstract name space; anything else is no socket of ours. */
static bool take_address(struct supervisor *supervisor, const char *name)
{
    size_t size = strlen(name);

    if ((name[0] != '/' && name[0] != '@') || size < 2 ||
        size >= sizeof(supervisor->address.sun_path))
        return false;
    supervisor->address.sun_family = AF_UNIX;
    memcpy(supervisor->address.sun_path, name, size);
    if (name[0] == '@')
        supervisor->address.sun_path[0] = '\0';
    supervisor->address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
    return true;
}

/* In milliseconds; 0 when none is expected, or of another process. */
static int64_t watchdog_interval(void)
{
    const char *usec = getenv("WATCHDOG_USEC");
    const char *pid = getenv("WATCHDOG_PID");
    int64_t interval_ms = usec ? strtoll(usec, NULL, 10) / 1000 : 0;

    if (pid && strtoll(pid, NULL, 10) != getpid())
        return 0;
    return interval_ms > 0 ? interval_ms : 0;
}

static int open_socket(struct supervisor *supervisor, struct error *err)
{
    const struct timeval timeout = {SEND_TIMEOUT_S, 0};

    supervisor->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (supervisor->fd < 0)
        return error_set(err, ERROR_TRANSIENT, "cannot make a socket to the service manager: %s",
                         strerror(errno));
    setsockopt(supervisor->fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    return 0;
}

struct supervisor *supervisor_open(const struct clock *clock, struct error *err)
{
    struct supervisor *supervisor = alloc_zeroed(1, sizeof(*supervisor));
    const char *name = getenv("NOTIFY_SOCKET");

    supervisor->clock = clock;
    pthread_mutex_init(&supervisor->lock, NULL);
    supervisor->fd = supervisor->wakeup.fd = -1;
    if (!name)
        return supervisor;
    if (!take_address(supervisor, name)) {
        log_warn("supervisor.unknown", log_str("notify_socket", name),
                 log_str("action", "it is neither a path nor a name behind @: nobody is told"));
        return supervisor;
    }
    supervisor->interval_ms = watchdog_interval();
    if (open_socket(supervisor, err) == 0 && wakeup_init(&supervisor->wakeup, err) == 0)
        return supervisor;
    supervisor_free(supervisor);
    return NULL;
}

/* ---- telling ---- */

static void tell(struct supervisor *supervisor, const char *message)
{
    if (!supervisor->address_size)
        return;
    if (sendto(supervisor->fd, message, strlen(message), MSG_NOSIGNAL,
               (const struct sockaddr *)&supervisor->address, supervisor->address_size) >= 0 ||
        atomic_exchange(&supervisor->has_failed, true))
        return;
    log_warn("supervisor.not_told", log_str("error", strerror(errno)),
             log_str("action", "the service manager of NOTIFY_SOCKET may end the bridge"));
}

static void tell_unless_stopping(struct supervisor *supervisor, const char *message)
{
    pthread_mutex_lock(&supervisor->lock);
    if (!atomic_load(&supervisor->is_stopping))
        tell(supervisor, message);
    pthread_mutex_unlock(&supervisor->lock);
}

static void *beat(void *argument)
{
    struct supervisor *supervisor = argument;
    int64_t pause_ms = supervisor->interval_ms / BEATS_IN_INTERVAL;
    bool was_late = false;

    while (!atomic_load(&supervisor->is_stopping)) {
        int64_t busy_ms = supervisor->busy_ms(supervisor->context);
        bool is_late = busy_ms >= supervisor->interval_ms / 2;

        if (!is_late)
            tell_unless_stopping(supervisor, "WATCHDOG=1");
        else if (!was_late)
            log_error("supervisor.no_heartbeat", log_i64("busy_ms", busy_ms),
                      log_str("action", "unless the disk goes on, the service manager starts the "
                                        "bridge anew"));
        was_late = is_late;
        wakeup_wait(&supervisor->wakeup, pause_ms < INT32_MAX ? (int)pause_ms + 1 : INT32_MAX);
    }
    return NULL;
}

int supervisor_ready(struct supervisor *supervisor, int64_t (*busy_ms)(void *context),
                     void *context, struct error *err)
{
    tell(supervisor, "READY=1\nSTATUS=Webhooks are accepted");
    if (!supervisor->interval_ms)
        return 0;
    supervisor->busy_ms = busy_ms;
    supervisor->context = context;
    if (thread_start(&supervisor->thread, "watchdog", beat, supervisor, err) < 0)
        return -1;
    supervisor->has_thread = true;
    return 0;
}

void supervisor_reloading(struct supervisor *supervisor)
{
    char message[MAX_MESSAGE];

    snprintf(message, sizeof(message),
             "RELOADING=1\nMONOTONIC_USEC=%" PRId64 "\nSTATUS=The configuration is read again",
             clock_monotonic_us(supervisor->clock));
    tell_unless_stopping(supervisor, message);
}

void supervisor_reloaded(struct supervisor *supervisor, bool is_good)
{
    tell_unless_stopping(supervisor,
                         is_good ? "READY=1\nSTATUS=Webhooks are accepted"
                                 : "READY=1\nSTATUS=Webhooks are accepted, by the configuration "
                                   "before: the log says why");
}

void supervisor_stopping(struct supervisor *supervisor)
{
    pthread_mutex_lock(&supervisor->lock);
    atomic_store(&supervisor->is_stopping, true);
    tell(supervisor, "STOPPING=1\nSTATUS=What is under way is finished");
    pthread_mutex_unlock(&supervisor->lock);
    if (!supervisor->has_thread)
        return;
    wakeup_signal(&supervisor->wakeup);
    pthread_join(supervisor->thread, NULL);
    supervisor->has_thread = false;
}

void supervisor_free(struct supervisor *supervisor)
{
    if (!supervisor)
        return;
    if (supervisor->fd >= 0)
        close(supervisor->fd);
    wakeup_release(&supervisor->wakeup);
    pthread_mutex_destroy(&supervisor->lock);
    free(supervisor);
}
