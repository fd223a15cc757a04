#include "tests/support/http_probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "bridge/base/clock.h"

int probe_connect(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

int probe_connect_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

void probe_send(int fd, const void *bytes, size_t size)
{
    const char *at = bytes;

    while (size) {
        ssize_t n = send(fd, at, size, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        at += n;
        size -= (size_t)n;
    }
}

void probe_send_string(int fd, const char *string)
{
    probe_send(fd, string, strlen(string));
}

/* At most `size` bytes; 0: the end, a reset, or nothing in time. */
static size_t receive(int fd, void *bytes, size_t size)
{
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    ssize_t n;

    if (poll(&poller, 1, PROBE_WAIT_MS) <= 0)
        return 0;
    n = recv(fd, bytes, size, 0);
    return n > 0 ? (size_t)n : 0;
}

static bool read_head(int fd, struct probe_answer *answer)
{
    size_t size = 0;

    while (size < sizeof(answer->head) - 1) {
        if (receive(fd, answer->head + size, 1) == 0)
            return false;
        answer->head[++size] = '\0';
        if (size >= 4 && memcmp(answer->head + size - 4, "\r\n\r\n", 4) == 0)
            return true;
    }
    return false;
}

static bool read_body(int fd, struct probe_answer *answer, size_t size)
{
    char chunk[16384];

    answer->body_size = 0;
    while (answer->body_size < size) {
        size_t wanted = size - answer->body_size;
        size_t n = receive(fd, chunk, wanted < sizeof(chunk) ? wanted : sizeof(chunk));
        size_t room = sizeof(answer->body) - 1;

        if (n == 0)
            return false;
        if (answer->body_size < room)
            memcpy(answer->body + answer->body_size, chunk,
                   n < room - answer->body_size ? n : room - answer->body_size);
        answer->body_size += n;
    }
    return true;
}

bool probe_read(int fd, struct probe_answer *answer)
{
    const char *length;

    memset(answer, 0, sizeof(*answer));
    do {
        if (!read_head(fd, answer))
            return false;
        assert_int_equal(strncmp(answer->head, "HTTP/1.1 ", 9), 0);
        answer->status = atoi(answer->head + 9);
    } while (answer->status == 100);
    answer->closes = strcasestr(answer->head, "\r\nconnection: close\r\n") != NULL;
    length = strcasestr(answer->head, "\r\ncontent-length: ");
    assert_non_null(length);
    return read_body(fd, answer, strtoul(length + 18, NULL, 10));
}

void probe_ask(int fd, const char *request, struct probe_answer *answer)
{
    probe_send_string(fd, request);
    assert_true(probe_read(fd, answer));
}

bool probe_is_closed(int fd)
{
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    char byte;

    return poll(&poller, 1, PROBE_WAIT_MS) > 0 && recv(fd, &byte, 1, 0) <= 0;
}

bool probe_until(bool (*condition)(void *context), void *context)
{
    const struct timespec pause = {0, 2000000};
    int64_t end_ms = clock_monotonic_ms(&clock_system) + PROBE_WAIT_MS;

    while (!condition(context)) {
        if (clock_monotonic_ms(&clock_system) > end_ms)
            return false;
        nanosleep(&pause, NULL);
    }
    return true;
}
