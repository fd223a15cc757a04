#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "bridge/base/mailbox.h"

enum { RECEIVERS = 20 };

/* How often it was signalled since it was last asked. */
static uint64_t signals(const struct wakeup *wakeup)
{
    uint64_t count = 0;

    return read(wakeup->fd, &count, sizeof(count)) == (ssize_t)sizeof(count) ? count : 0;
}

static void messages_keep_their_order_and_only_the_first_wakes(void **state)
{
    struct mailbox_node nodes[3];
    struct mailbox mailbox;
    struct wakeup wakeup;
    struct mailbox_node *taken;

    (void)state;
    assert_int_equal(wakeup_init(&wakeup, NULL), 0);
    mailbox_init(&mailbox, &wakeup);
    for (int i = 0; i < 3; i++)
        mailbox_push(&mailbox, &nodes[i]);
    assert_int_equal(signals(&wakeup), 1);
    taken = mailbox_take(&mailbox);
    for (int i = 0; i < 3; i++, taken = taken->next)
        assert_ptr_equal(taken, &nodes[i]);
    assert_null(taken);
    assert_true(mailbox_is_empty(&mailbox));
    wakeup_release(&wakeup);
}

static void signals_that_are_held_are_sent_once_at_the_end(void **state)
{
    struct wakeup one;
    struct wakeup two;

    (void)state;
    assert_int_equal(wakeup_init(&one, NULL), 0);
    assert_int_equal(wakeup_init(&two, NULL), 0);
    wakeup_hold();
    for (int i = 0; i < 5; i++) {
        wakeup_signal(&one);
        wakeup_signal(&two);
    }
    assert_int_equal(signals(&one), 0);
    assert_int_equal(signals(&two), 0);
    wakeup_let_go();
    assert_int_equal(signals(&one), 1);
    assert_int_equal(signals(&two), 1);
    wakeup_signal(&one);
    assert_int_equal(signals(&one), 1);
    wakeup_hold();
    wakeup_let_go();
    assert_int_equal(signals(&one), 0);
    wakeup_release(&one);
    wakeup_release(&two);
}

static void nobody_is_forgotten_when_there_are_many(void **state)
{
    struct wakeup wakeups[RECEIVERS];

    (void)state;
    for (int i = 0; i < RECEIVERS; i++)
        assert_int_equal(wakeup_init(&wakeups[i], NULL), 0);
    wakeup_hold();
    for (int i = 0; i < RECEIVERS; i++)
        wakeup_signal(&wakeups[i]);
    wakeup_let_go();
    for (int i = 0; i < RECEIVERS; i++) {
        assert_int_equal(signals(&wakeups[i]), 1);
        wakeup_release(&wakeups[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_keep_their_order_and_only_the_first_wakes),
        cmocka_unit_test(signals_that_are_held_are_sent_once_at_the_end),
        cmocka_unit_test(nobody_is_forgotten_when_there_are_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
