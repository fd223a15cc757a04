#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/thread.h"
#include "bridge/daemon/supervisor.h"

static int64_t fixed_us(const struct clock *self)
{
    (void)self;
    return 1234567;
}

enum { PATIENT_MS = 10000 };

static const struct clock fake_clock = {fixed_us, fixed_us};
static int manager;
static char name[108];
static _Atomic int64_t busy_ms;

static int64_t get_busy_ms(void *context)
{
    assert_ptr_equal(context, &busy_ms);
    return atomic_load(&busy_ms);
}

/* A service manager that listens on an abstract name, or on a path. */
static void listen_as(const char *prefix)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t size;

    snprintf(name, sizeof(name), "%s-%d", prefix, (int)getpid());
    memcpy(address.sun_path, name, strlen(name));
    if (name[0] == '@')
        address.sun_path[0] = '\0';
    else
        unlink(name);
    size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(manager >= 0);
    assert_int_equal(bind(manager, (const struct sockaddr *)&address, size), 0);
    setenv("NOTIFY_SOCKET", name, 1);
}

static int set_up(void **state)
{
    (void)state;
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    atomic_store(&busy_ms, 0);
    listen_as("@close-bridge-test");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    close(manager);
    return 0;
}

/* The next message; "" when none comes within `wait_ms`. */
static const char *received(int wait_ms)
{
    static char message[512];
    struct timeval timeout = {wait_ms / 1000, (wait_ms % 1000) * 1000L};
    ssize_t size;

    setsockopt(manager, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    size = recv(manager, message, sizeof(message) - 1, 0);
    message[size > 0 ? size : 0] = '\0';
    return message;
}

static struct supervisor *opened(void)
{
    struct error err = {0};
    struct supervisor *supervisor = supervisor_open(&fake_clock, &err);

    assert_non_null(supervisor);
    return supervisor;
}

static void start(struct supervisor *supervisor)
{
    struct error err = {0};

    assert_int_equal(supervisor_ready(supervisor, get_busy_ms, &busy_ms, &err), 0);
}

static void a_life_is_told_in_order(void **state)
{
    struct supervisor *supervisor = opened();

    (void)state;
    start(supervisor);
    supervisor_reloading(supervisor);
    supervisor_reloaded(supervisor, true);
    supervisor_reloading(supervisor);
    supervisor_reloaded(supervisor, false);
    supervisor_reloading(supervisor);
    supervisor_stopping(supervisor);
    supervisor_reloaded(supervisor, true); /* it was under way: no READY=1 behind STOPPING=1 */
    supervisor_free(supervisor);
    assert_string_equal(received(PATIENT_MS), "READY=1\nSTATUS=Webhooks are accepted");
    assert_string_equal(
        received(PATIENT_MS),
        "RELOADING=1\nMONOTONIC_USEC=1234567\nSTATUS=The configuration is read again");
    assert_string_equal(received(PATIENT_MS), "READY=1\nSTATUS=Webhooks are accepted");
    assert_memory_equal(received(PATIENT_MS), "RELOADING=1\n", 12);
    assert_string_equal(received(PATIENT_MS), "READY=1\nSTATUS=Webhooks are accepted, by the "
                                              "configuration before: the log says why");
    assert_memory_equal(received(PATIENT_MS), "RELOADING=1\n", 12);
    assert_string_equal(received(PATIENT_MS), "STOPPING=1\nSTATUS=What is under way is finished");
    assert_string_equal(received(1), "");
}

static void a_path_is_as_good_as_an_abstract_name(void **state)
{
    struct supervisor *supervisor;

    (void)state;
    close(manager);
    listen_as("/tmp/close-bridge-test");
    supervisor = opened();
    start(supervisor);
    assert_memory_equal(received(PATIENT_MS), "READY=1\n", 8);
    supervisor_free(supervisor);
    unlink(name);
}

static void without_a_socket_of_ours_nobody_is_told(void **state)
{
    char too_long[200];
    const char *const names[] = {NULL, "", "@", "/", "relative", "vsock:2:1", too_long};

    (void)state;
    memset(too_long, 'a', sizeof(too_long));
    too_long[0] = '/';
    too_long[sizeof(too_long) - 1] = '\0';
    setenv("WATCHDOG_USEC", "1000", 1);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct supervisor *supervisor;

        if (names[i])
            setenv("NOTIFY_SOCKET", names[i], 1);
        else
            unsetenv("NOTIFY_SOCKET");
        supervisor = opened();
        start(supervisor);
        supervisor_stopping(supervisor);
        supervisor_free(supervisor);
    }
    assert_string_equal(received(1), "");
}

static void a_manager_that_is_gone_does_no_harm(void **state)
{
    struct supervisor *supervisor = opened();

    (void)state;
    close(manager);
    start(supervisor);
    supervisor_stopping(supervisor);
    supervisor_free(supervisor);
    listen_as("@close-bridge-test"); /* for the teardown */
}

static void the_heart_beats_while_there_is_progress_and_no_longer(void **state)
{
    struct supervisor *supervisor;

    (void)state;
    setenv("WATCHDOG_USEC", "40000", 1);
    supervisor = opened();
    assert_string_equal(received(30), ""); /* not before READY=1 */
    start(supervisor);
    assert_memory_equal(received(PATIENT_MS), "READY=1\n", 8);
    atomic_store(&busy_ms, 19); /* less than half of the interval */
    for (int i = 0; i < 5; i++)
        assert_string_equal(received(PATIENT_MS), "WATCHDOG=1");
    atomic_store(&busy_ms, 20);
    while (*received(100)) /* those on their way */
        ;
    assert_string_equal(received(200), ""); /* five intervals */
    atomic_store(&busy_ms, 0);
    for (int i = 0; i < 5; i++)
        assert_string_equal(received(PATIENT_MS), "WATCHDOG=1");
    supervisor_stopping(supervisor);
    while (strcmp(received(PATIENT_MS), "WATCHDOG=1") == 0)
        ;
    assert_string_equal(received(100), ""); /* STOPPING=1 was the last */
    supervisor_free(supervisor);
}

static atomic_bool is_held;
static atomic_bool is_released;

static void sleep_a_little(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static int64_t hold(void *context)
{
    (void)context;
    atomic_store(&is_held, true);
    while (!atomic_load(&is_released))
        sleep_a_little();
    return 0;
}

static void *stop(void *supervisor)
{
    supervisor_stopping(supervisor);
    return NULL;
}

static void a_heartbeat_that_was_about_to_be_told_is_not_told_behind_the_stop(void **state)
{
    struct supervisor *supervisor;
    struct error err = {0};
    pthread_t thread;

    (void)state;
    setenv("WATCHDOG_USEC", "40000", 1);
    supervisor = opened();
    atomic_store(&is_released, false);
    assert_int_equal(supervisor_ready(supervisor, hold, NULL, &err), 0);
    assert_memory_equal(received(PATIENT_MS), "READY=1\n", 8);
    while (!atomic_load(&is_held))
        sleep_a_little();
    assert_int_equal(thread_start(&thread, "stopper", stop, supervisor, &err), 0);
    assert_memory_equal(received(PATIENT_MS), "STOPPING=1\n", 11);
    atomic_store(&is_released, true);
    pthread_join(thread, NULL);
    assert_string_equal(received(1), "");
    supervisor_reloading(supervisor); /* it was under way */
    supervisor_reloaded(supervisor, true);
    assert_string_equal(received(1), "");
    supervisor_free(supervisor);
}

static void no_heart_beats_for_another_process_or_for_an_odd_interval(void **state)
{
    static const struct {
        const char *usec;
        const char *pid;
    } cases[] = {{"10000", "1"}, {"0", NULL}, {"", NULL}, {"soon", NULL}, {"-5000", NULL}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct supervisor *supervisor;

        setenv("WATCHDOG_USEC", cases[i].usec, 1);
        if (cases[i].pid)
            setenv("WATCHDOG_PID", cases[i].pid, 1);
        else
            unsetenv("WATCHDOG_PID");
        supervisor = opened();
        start(supervisor);
        assert_memory_equal(received(PATIENT_MS), "READY=1\n", 8);
        assert_string_equal(received(50), "");
        supervisor_free(supervisor);
    }
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_life_is_told_in_order),
        TEST(a_path_is_as_good_as_an_abstract_name),
        TEST(without_a_socket_of_ours_nobody_is_told),
        TEST(a_manager_that_is_gone_does_no_harm),
        TEST(the_heart_beats_while_there_is_progress_and_no_longer),
        TEST(a_heartbeat_that_was_about_to_be_told_is_not_told_behind_the_stop),
        TEST(no_heart_beats_for_another_process_or_for_an_odd_interval),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
