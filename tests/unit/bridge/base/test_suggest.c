#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bridge/base/suggest.h"

static const char *const names[] = {"topic", "topic_map", "max_body", "key", "acknowledge", NULL};

static void near_names_are_suggested_and_far_ones_are_not(void **state)
{
    static const struct {
        const char *word;
        const char *expected;
    } cases[] = {
        {"topci", "topic"},
        {"topics", "topic"},
        {"topicmap", "topic_map"},
        {"maxbody", "max_body"},
        {"acknowlege", "acknowledge"},
        {"kye", "key"},
        {"xyz", NULL},
        {"", NULL},
        {"k", NULL},
        {"a very long word that is nobody's, and longer than any name could sensibly be, ever",
         NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *found = suggest(text_of(cases[i].word), names);

        if (cases[i].expected) {
            assert_non_null(found);
            assert_string_equal(found, cases[i].expected);
        } else {
            assert_null(found);
        }
    }
}

static void the_nearest_wins_whatever_the_order(void **state)
{
    struct suggestion forward = {.word = text_of("creates")};
    struct suggestion backward = {.word = text_of("creates")};

    (void)state;
    suggestion_offer(&forward, "crates");
    suggestion_offer(&forward, "created_by");
    suggestion_offer(&backward, "created_by");
    suggestion_offer(&backward, "crates");
    assert_string_equal(forward.name, "crates");
    assert_string_equal(backward.name, "crates");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(near_names_are_suggested_and_far_ones_are_not),
        cmocka_unit_test(the_nearest_wins_whatever_the_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
