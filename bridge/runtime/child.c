#include "bridge/runtime/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"

enum { MAX_ARGUMENTS = 16, MAX_OUTPUT = 16 * 1024 };

/* Nothing of ours but the output: no signals held back or ignored, no input. */
static int spawn(const char *const *arguments, int output, pid_t *out_pid)
{
    char *argv[MAX_ARGUMENTS + 2] = {(char *)(uintptr_t) "close-bridge"};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigset_t all;
    int rc;

    for (size_t i = 0; i < MAX_ARGUMENTS && arguments[i]; i++)
        argv[i + 1] = (char *)(uintptr_t)arguments[i];
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, output, STDERR_FILENO);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    rc = posix_spawn(out_pid, "/proc/self/exe", &files, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    return rc;
}

/* Takes its output until it ends. False: the deadline is over. */
static bool read_output(int fd, int64_t deadline_ms, struct buf *output)
{
    char part[1024];

    for (;;) {
        int64_t left_ms = deadline_ms - clock_monotonic_ms(&clock_system);
        struct pollfd poller = {.fd = fd, .events = POLLIN};
        ssize_t n;

        if (left_ms <= 0)
            return false;
        if (poll(&poller, 1, left_ms < 1000 ? (int)left_ms : 1000) <= 0)
            continue;
        n = read(fd, part, sizeof(part));
        if (n == 0)
            return true;
        if (n > 0 && output->size < MAX_OUTPUT)
            buf_append(output, part, (size_t)n);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return true;
    }
}

static void wait_for(pid_t pid, struct child_result *result)
{
    int status = 0;

    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status))
        result->exit_code = WEXITSTATUS(status);
    else
        result->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

int child_run(const char *const *arguments, int64_t timeout_ms, struct child_result *out_result,
              struct error *err)
{
    int64_t deadline_ms = clock_monotonic_ms(&clock_system) + timeout_ms;
    pid_t pid;
    int ends[2];
    int rc;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_set(err, ERROR_TRANSIENT, "cannot make a pipe: %s", strerror(errno));
    rc = spawn(arguments, ends[1], &pid);
    close(ends[1]);
    if (rc != 0) {
        close(ends[0]);
        return error_set(err, ERROR_TRANSIENT, "cannot run close-bridge %s: %s", arguments[0],
                         strerror(rc));
    }
    *out_result = (struct child_result){.exit_code = -1};
    if (read_output(ends[0], deadline_ms, &out_result->output)) {
        wait_for(pid, out_result);
    } else {
        kill(pid, SIGKILL);
        wait_for(pid, out_result);
        out_result->exit_code = -1;
        out_result->signal = 0;
    }
    close(ends[0]);
    return 0;
}
