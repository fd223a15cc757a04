#include "bridge/base/mailbox.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "bridge/base/error.h"

enum { HELD_MAX = 16 }; /* receivers; beyond them a signal is sent at once */

static _Thread_local struct {
    bool is_on;
    size_t count;
    int fds[HELD_MAX];
} held;

int wakeup_init(struct wakeup *wakeup, struct error *err)
{
    wakeup->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (wakeup->fd < 0)
        return error_set(err, ERROR_FATAL, "eventfd: %s", strerror(errno));
    return 0;
}

void wakeup_release(struct wakeup *wakeup)
{
    if (wakeup->fd >= 0)
        close(wakeup->fd);
    wakeup->fd = -1;
}

static void signal_now(int fd)
{
    uint64_t one = 1;
    ssize_t n;

    do
        n = write(fd, &one, sizeof(one));
    while (n < 0 && errno == EINTR); /* EAGAIN: the counter is full, so it is signalled */
}

/* False: the signal has to be sent now. */
static bool hold(int fd)
{
    size_t i = 0;

    while (i < held.count && held.fds[i] != fd)
        i++;
    if (!held.is_on || i == HELD_MAX)
        return false;
    held.fds[i] = fd;
    held.count += i == held.count;
    return true;
}

void wakeup_signal(struct wakeup *wakeup)
{
    if (!hold(wakeup->fd))
        signal_now(wakeup->fd);
}

void wakeup_hold(void)
{
    held.is_on = true;
}

void wakeup_let_go(void)
{
    for (size_t i = 0; i < held.count; i++)
        signal_now(held.fds[i]);
    held.count = 0;
    held.is_on = false;
}

void wakeup_clear(struct wakeup *wakeup)
{
    uint64_t count;
    ssize_t n;

    do
        n = read(wakeup->fd, &count, sizeof(count));
    while (n < 0 && errno == EINTR);
}

void wakeup_wait(struct wakeup *wakeup, int timeout_ms)
{
    struct pollfd poller = {.fd = wakeup->fd, .events = POLLIN};

    if (poll(&poller, 1, timeout_ms) > 0)
        wakeup_clear(wakeup);
}

void wakeup_wait_us(struct wakeup *wakeup, int64_t timeout_us)
{
    struct pollfd poller = {.fd = wakeup->fd, .events = POLLIN};
    struct timespec timeout = {timeout_us / 1000000, (long)(timeout_us % 1000000) * 1000};

    if (ppoll(&poller, 1, &timeout, NULL) > 0)
        wakeup_clear(wakeup);
}

void mailbox_init(struct mailbox *mailbox, struct wakeup *wakeup)
{
    atomic_init(&mailbox->newest, NULL);
    mailbox->wakeup = wakeup;
}

bool mailbox_add(struct mailbox *mailbox, struct mailbox_node *node)
{
    struct mailbox_node *newest = atomic_load_explicit(&mailbox->newest, memory_order_relaxed);

    do
        node->next = newest;
    while (!atomic_compare_exchange_weak_explicit(&mailbox->newest, &newest, node,
                                                  memory_order_seq_cst, memory_order_relaxed));
    return newest == NULL;
}

void mailbox_push(struct mailbox *mailbox, struct mailbox_node *node)
{
    if (mailbox_add(mailbox, node))
        wakeup_signal(mailbox->wakeup);
}

bool mailbox_is_empty(const struct mailbox *mailbox)
{
    return atomic_load(&mailbox->newest) == NULL;
}

struct mailbox_node *mailbox_take(struct mailbox *mailbox)
{
    struct mailbox_node *node =
        atomic_exchange_explicit(&mailbox->newest, NULL, memory_order_acquire);
    struct mailbox_node *oldest = NULL;

    while (node) {
        struct mailbox_node *next = node->next;

        node->next = oldest;
        oldest = node;
        node = next;
    }
    return oldest;
}
