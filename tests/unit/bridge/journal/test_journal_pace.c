#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bridge/base/clock.h"
#include "bridge/base/mailbox.h"
#include "bridge/base/thread.h"
#include "bridge/journal/journal_pace.h"

enum { SENDERS = 8, ROUNDS = 400 };

struct sender {
    struct mailbox_node node;
    struct mailbox *mailbox;
    struct pace *pace;
    sem_t answered;
    pthread_t thread;
};

static bool is_signalled(const struct wakeup *wakeup)
{
    struct pollfd poller = {.fd = wakeup->fd, .events = POLLIN};

    return poll(&poller, 1, 0) == 1;
}

static void only_the_last_of_those_that_were_answered_ends_the_pause(void **state)
{
    struct wakeup wakeup;
    struct pace pace;

    (void)state;
    assert_int_equal(wakeup_init(&wakeup, NULL), 0);
    pace_init(&pace, &wakeup);
    for (int i = 0; i < 5; i++)
        pace_arrive(&pace); /* two of them during the commit of the other three */
    pace_take(&pace, 3);
    pace_answer(&pace, 3);
    pace_arrive(&pace);
    pace_arrive(&pace);
    assert_false(is_signalled(&wakeup));
    pace_arrive(&pace);
    assert_true(is_signalled(&wakeup));
    pace_pause(&pace, &clock_system);
    wakeup_clear(&wakeup);
    pace_take(&pace, 5);
    pace_arrive(&pace); /* the writer works */
    assert_false(is_signalled(&wakeup));
    wakeup_release(&wakeup);
}

static void a_pause_ends_without_those_who_do_not_come_back(void **state)
{
    struct wakeup wakeup;
    struct pace pace;
    int64_t begin_us;

    (void)state;
    assert_int_equal(wakeup_init(&wakeup, NULL), 0);
    pace_init(&pace, &wakeup);
    begin_us = clock_monotonic_us(&clock_system);
    pace_answer(&pace, 1000);
    pace_pause(&pace, &clock_system);
    assert_true(clock_monotonic_us(&clock_system) - begin_us >= 2000);
    begin_us = clock_monotonic_us(&clock_system);
    for (int i = 0; i < 10000; i++)
        pace_pause(&pace, &clock_system); /* there is one pause behind each batch */
    assert_true(clock_monotonic_us(&clock_system) - begin_us < 10000 * 2000);
    wakeup_release(&wakeup);
}

static void *send_and_wait(void *argument)
{
    struct sender *sender = argument;

    for (int i = 0; i < ROUNDS; i++) {
        mailbox_add(sender->mailbox, &sender->node);
        pace_arrive(sender->pace);
        while (sem_wait(&sender->answered) != 0)
            ;
    }
    return NULL;
}

/* Returns how many there were. */
static size_t answer_all(struct mailbox *mailbox, struct pace *pace)
{
    struct mailbox_node *first = mailbox_take(mailbox);
    size_t count = 0;

    for (struct mailbox_node *node = first; node; node = node->next)
        count++;
    pace_take(pace, count);
    pace_answer(pace, count);
    while (first) {
        struct sender *sender = container_of(first, struct sender, node);

        first = first->next; /* first: it sends again at once */
        sem_post(&sender->answered);
    }
    return count;
}

static void nobody_is_forgotten_while_the_writer_falls_asleep(void **state)
{
    static struct sender senders[SENDERS];
    struct mailbox mailbox;
    struct wakeup wakeup;
    struct pace pace;
    size_t count = 0;

    (void)state;
    assert_int_equal(wakeup_init(&wakeup, NULL), 0);
    mailbox_init(&mailbox, &wakeup);
    pace_init(&pace, &wakeup);
    for (int s = 0; s < SENDERS; s++) {
        senders[s].mailbox = &mailbox;
        senders[s].pace = &pace;
        sem_init(&senders[s].answered, 0, 0);
        assert_int_equal(
            thread_start(&senders[s].thread, "sender", send_and_wait, &senders[s], NULL), 0);
    }
    while (count < SENDERS * ROUNDS) {
        int64_t begin_ms = clock_monotonic_ms(&clock_system);

        if (count % 2)
            pace_pause(&pace, &clock_system);
        pace_sleep(&pace, 10000);
        if (clock_monotonic_ms(&clock_system) - begin_ms >= 10000)
            fail_msg("%zu deliveries are answered and nobody woke the writer again", count);
        count += answer_all(&mailbox, &pace);
    }
    for (int s = 0; s < SENDERS; s++) {
        pthread_join(senders[s].thread, NULL);
        sem_destroy(&senders[s].answered);
    }
    wakeup_release(&wakeup);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_last_of_those_that_were_answered_ends_the_pause),
        cmocka_unit_test(a_pause_ends_without_those_who_do_not_come_back),
        cmocka_unit_test(nobody_is_forgotten_while_the_writer_falls_asleep),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
