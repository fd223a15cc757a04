#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "bridge/base/mailbox.h"
#include "bridge/base/text.h"
#include "bridge/base/thread.h"

static void context_is_put_before_the_message(void **state)
{
    struct error err = {0};

    (void)state;
    assert_int_equal(error_set(&err, ERROR_CONFIG, "no such %s", "file"), -1);
    assert_int_equal(error_context(&err, "open %s", "x"), -1);
    assert_int_equal(err.kind, ERROR_CONFIG);
    assert_string_equal(err.message, "open x: no such file");
}

static void json_strings_escape_quotes_and_controls(void **state)
{
    struct buf buf = {0};

    (void)state;
    buf_append_json_string(&buf, (struct text){"a\"b\\c\n\0\x7f\xc3\xa4", 10});
    assert_string_equal(buf.data, "\"a\\\"b\\\\c\\u000a\\u0000\\u007f\xc3\xa4\"");
    buf_release(&buf);
}

static void buffers_grow_and_stay_terminated(void **state)
{
    struct buf buf = {0};

    (void)state;
    for (int i = 0; i < 1000; i++)
        buf_printf(&buf, "%d,", i % 10);
    assert_int_equal(buf.size, 2000);
    assert_int_equal(strlen(buf.data), 2000);
    buf_release(&buf);
}

static void numbers_are_whole_and_fit(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        uint64_t value;
    } cases[] = {
        {"0", true, 0},
        {"1557751596", true, 1557751596},
        {"18446744073709551615", true, UINT64_MAX},
        {"18446744073709551616", false, 0},
        {"", false, 0},
        {"-1", false, 0},
        {" 1", false, 0},
        {"1x", false, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t value = 0;

        assert_int_equal(text_to_u64(text_of(cases[i].text), &value), cases[i].ok);
        assert_int_equal(value, cases[i].value);
    }
}

static void hex_is_read_in_either_case_and_exact_length(void **state)
{
    unsigned char bytes[2];
    char hex[5];

    (void)state;
    assert_true(text_from_hex(text_of("aBfF"), bytes, 2));
    text_to_hex(bytes, 2, hex);
    assert_string_equal(hex, "abff");
    assert_false(text_from_hex(text_of("abf"), bytes, 2));
    assert_false(text_from_hex(text_of("abfff"), bytes, 2));
    assert_false(text_from_hex(text_of("abxf"), bytes, 2));
}

struct numbered {
    struct mailbox_node node;
    int sender;
    int number;
};

enum { SENDERS = 4, EACH = 20000 };

static struct mailbox shared_mailbox;

static void *send_all(void *argument)
{
    struct numbered *items = argument;

    for (int i = 0; i < EACH; i++)
        mailbox_push(&shared_mailbox, &items[i].node);
    return NULL;
}

static void mailboxes_keep_each_senders_order_and_lose_nothing(void **state)
{
    static struct numbered items[SENDERS][EACH];
    int next[SENDERS] = {0};
    pthread_t threads[SENDERS];
    struct wakeup wakeup;
    int received = 0;

    (void)state;
    assert_int_equal(wakeup_init(&wakeup, NULL), 0);
    mailbox_init(&shared_mailbox, &wakeup);
    for (int s = 0; s < SENDERS; s++) {
        for (int i = 0; i < EACH; i++) {
            items[s][i].sender = s;
            items[s][i].number = i;
        }
        assert_int_equal(thread_start(&threads[s], "sender", send_all, items[s], NULL), 0);
    }
    while (received < SENDERS * EACH) {
        struct mailbox_node *node;

        wakeup_wait(&wakeup, 10000);
        node = mailbox_take(&shared_mailbox);
        assert_non_null(node); /* woken, or ten seconds without a wake-up: one was lost */
        for (; node; node = node->next) {
            struct numbered *item = container_of(node, struct numbered, node);

            assert_int_equal(item->number, next[item->sender]++);
            received++;
        }
    }
    for (int s = 0; s < SENDERS; s++)
        pthread_join(threads[s], NULL);
    wakeup_release(&wakeup);
}

static void clean_text_is_utf8_without_controls_and_noncharacters(void **state)
{
    static const struct {
        const char *text;
        bool is_clean;
    } cases[] = {
        {"", true},
        {"abc", true},
        {"abcdefgh ~ABCDEFGH", true},
        {"abcdefg\x1f", false},
        {"abcdefg\x7f", false},
        {"\tabcdefgh", false},
        {"abcdefgh\x7f", false},
        {"\xc2\x80", false},
        {"\xc2\x9f", false},
        {"\xc2\xa0", true},
        {"abcdefg\xc3\xa4", true},
        {"abcdefg\xc3", false},
        {"\xa4", false},
        {"\xc0\xaf", false},
        {"\xe0\x80\xaf", false},
        {"\xed\x9f\xbf", true},
        {"\xed\xa0\x80", false},
        {"\xef\xb7\x8f", true},
        {"\xef\xb7\x90", false},
        {"\xef\xbf\xbd", true},
        {"\xef\xbf\xbe", false},
        {"\xf0\x9f\x98\x80", true},
        {"\xf0\x9f\xbf\xbf", false},
        {"\xf4\x8f\xbf\xbd", true},
        {"\xf4\x90\x80\x80", false},
        {"\xf8\x88\x80\x80\x80", false},
        {"\xff", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (text_is_clean(text_of(cases[i].text)) != cases[i].is_clean)
            fail_msg("case %zu", i);
    }
    assert_false(text_is_clean((struct text){"a\0b", 3}));
    assert_true(text_is_clean((struct text){NULL, 0}));
}

static void a_mailbox_tells_whether_it_was_empty(void **state)
{
    struct mailbox mailbox;
    struct mailbox_node nodes[2];

    (void)state;
    mailbox_init(&mailbox, NULL);
    assert_true(mailbox_is_empty(&mailbox));
    assert_true(mailbox_add(&mailbox, &nodes[0]));
    assert_false(mailbox_add(&mailbox, &nodes[1]));
    assert_false(mailbox_is_empty(&mailbox));
    assert_ptr_equal(mailbox_take(&mailbox), &nodes[0]);
    assert_ptr_equal(nodes[0].next, &nodes[1]);
    assert_true(mailbox_is_empty(&mailbox));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clean_text_is_utf8_without_controls_and_noncharacters),
        cmocka_unit_test(context_is_put_before_the_message),
        cmocka_unit_test(json_strings_escape_quotes_and_controls),
        cmocka_unit_test(buffers_grow_and_stay_terminated),
        cmocka_unit_test(numbers_are_whole_and_fit),
        cmocka_unit_test(hex_is_read_in_either_case_and_exact_length),
        cmocka_unit_test(mailboxes_keep_each_senders_order_and_lose_nothing),
        cmocka_unit_test(a_mailbox_tells_whether_it_was_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
