#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/dispatcher/outcomes.h"

struct seen {
    uint64_t last;
    uint64_t count;
};

static size_t topic_size(uint64_t seq)
{
    return seq % 97;
}

/* Outcomes of consecutive events, each with a topic that follows from its number. */
static void check(void *context, const struct outcome *outcome)
{
    struct seen *seen = context;

    if (seen->count++)
        assert_int_equal(outcome->seq, seen->last + 1);
    seen->last = outcome->seq;
    assert_int_equal(outcome->offset, outcome->seq * 2);
    assert_int_equal(outcome->partition, outcome->seq % 7);
    assert_int_equal(outcome->topic.size, topic_size(outcome->seq));
    for (size_t i = 0; i < outcome->topic.size; i++)
        assert_int_equal(outcome->topic.data[i], 'a' + (char)(outcome->seq % 26));
}

static void add(struct outcomes *outcomes, uint64_t seq)
{
    char topic[100];

    memset(topic, 'a' + (int)(seq % 26), sizeof(topic));
    outcomes_add(outcomes, &(struct outcome){.seq = seq,
                                             .at_ms = 1,
                                             .offset = (int64_t)seq * 2,
                                             .partition = (int32_t)(seq % 7),
                                             .topic = {topic, topic_size(seq)}});
}

static void the_latest_are_kept_whole_and_in_order(void **state)
{
    struct outcomes *outcomes = outcomes_new();

    (void)state;
    outcomes_visit(outcomes, check, &(struct seen){0});
    for (uint64_t seq = 1; seq <= 300000; seq++) {
        struct seen seen = {0};

        add(outcomes, seq);
        if (seq % 4999 != 0 && seq > 20)
            continue;
        outcomes_visit(outcomes, check, &seen);
        assert_int_equal(seen.last, seq);
        assert_true(seen.count == seq || seen.count > 20000);
    }
    outcomes_free(outcomes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_latest_are_kept_whole_and_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
