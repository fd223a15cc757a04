#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "schemas/field_policy.h"

enum { MAX_PATHS_OF_A_CASE = 4 };

struct policy_case {
    const char *paths[MAX_PATHS_OF_A_CASE];
    const char *event;
    const char *expected; /* NULL: the same bytes */
};

static struct field_policy *policy_of(enum field_policy_kind kind, const char *const *paths)
{
    struct field_policy *policy = field_policy_new(kind);
    struct error err = {0};

    assert_non_null(policy);
    for (size_t i = 0; i < MAX_PATHS_OF_A_CASE && paths[i]; i++) {
        if (field_policy_add(policy, text_of(paths[i]), &err) < 0)
            fail_msg("%s: %s", paths[i], err.message);
    }
    return policy;
}

static void check_cases(enum field_policy_kind kind, const struct policy_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct field_policy *policy = policy_of(kind, cases[i].paths);
        struct buf out = {0};

        print_message("%s of %s\n", cases[i].paths[0], cases[i].event);
        field_policy_apply(policy, text_of(cases[i].event), &out);
        assert_string_equal(out.data, cases[i].expected ? cases[i].expected : cases[i].event);
        buf_release(&out);
        field_policy_free(policy);
    }
}

#define CHECK(kind, cases) check_cases(kind, cases, sizeof(cases) / sizeof((cases)[0]))

static void drop_cuts_what_its_paths_stand_for(void **state)
{
    static const struct policy_case cases[] = {
        /* first, middle, last, only; the separators go with them */
        {{"data.a"}, "{\"data\":{\"a\":1,\"b\":2,\"c\":3}}", "{\"data\":{\"b\":2,\"c\":3}}"},
        {{"data.b"}, "{\"data\":{\"a\":1,\"b\":2,\"c\":3}}", "{\"data\":{\"a\":1,\"c\":3}}"},
        {{"data.c"}, "{\"data\":{\"a\":1,\"b\":2,\"c\":3}}", "{\"data\":{\"a\":1,\"b\":2}}"},
        {{"data.a", "data.b"}, "{\"data\":{\"a\":1,\"b\":2,\"c\":3}}", "{\"data\":{\"c\":3}}"},
        {{"data.b", "data.c"}, "{\"data\":{\"a\":1,\"b\":2,\"c\":3}}", "{\"data\":{\"a\":1}}"},
        {{"data.a", "data.c"}, "{\"data\":{\"a\":1,\"b\":2,\"c\":3}}", "{\"data\":{\"b\":2}}"},
        {{"data.a"}, "{\"data\":{\"a\":1}}", "{\"data\":{}}"},
        /* whatever the value is */
        {{"data.a"}, "{\"data\":{\"a\":{\"b\":[\"}\"]},\"c\":0}}", "{\"data\":{\"c\":0}}"},
        {{"data.a"}, "{\"data\":{\"a\":\"\\\",\\\\\",\"c\":0}}", "{\"data\":{\"c\":0}}"},
        {{"data.a"},
         "{\"data\":{\"a\":1e400,\"c\":12345678901234567890123}}",
         "{\"data\":{\"c\":12345678901234567890123}}"},
        /* a key that comes twice, or is written with escapes */
        {{"data.a"}, "{\"data\":{\"a\":1,\"b\":2,\"a\":3}}", "{\"data\":{\"b\":2}}"},
        {{"data.mail"}, "{\"data\":{\"m\\u0061il\":1,\"b\":2}}", "{\"data\":{\"b\":2}}"},
        {{"data.a"}, "{\"d\\u0061ta\":{\"\\u0061\":1,\"b\":2}}", "{\"d\\u0061ta\":{\"b\":2}}"},
        {{"data.a"}, "{\"data\":{\"b\":2},\"data\":{\"a\":1}}", "{\"data\":{\"b\":2},\"data\":{}}"},
        /* data is previous_data too */
        {{"data.a"},
         "{\"data\":{\"a\":1},\"previous_data\":{\"a\":0,\"b\":0}}",
         "{\"data\":{},\"previous_data\":{\"b\":0}}"},
        {{"data"}, "{\"id\":\"e\",\"data\":{\"a\":1},\"previous_data\":{}}", "{\"id\":\"e\"}"},
        {{"previous_data"}, "{\"data\":{\"a\":1},\"previous_data\":{}}", "{\"data\":{\"a\":1}}"},
        {{"previous_data", "data.a"}, "{\"data\":{\"a\":1},\"previous_data\":{}}", "{\"data\":{}}"},
        {{"data.a"}, "{\"previous\\u005fdata\":{\"a\":1}}", "{\"previous\\u005fdata\":{}}"},
        /* members of the event */
        {{"meta", "user_id"}, "{\"user_id\":\"u\",\"id\":\"e\",\"meta\":{}}", "{\"id\":\"e\"}"},
        {{"meta.request_path"},
         "{\"meta\":{\"request_path\":\"/\",\"x\":1}}",
         "{\"meta\":{\"x\":1}}"},
        /* deeper, and into arrays */
        {{"data.a.b"},
         "{\"data\":{\"a\":{\"b\":1,\"c\":2},\"b\":3}}",
         "{\"data\":{\"a\":{\"c\":2},\"b\":3}}"},
        {{"data.contacts.emails"},
         "{\"data\":{\"contacts\":[{\"emails\":[1],\"n\":1},5,null,[{\"n\":2,\"emails\":[]}]]}}",
         "{\"data\":{\"contacts\":[{\"n\":1},5,null,[{\"n\":2}]]}}"},
        {{"data.a.b"}, "{\"data\":{\"a\":\"b\"}}", NULL},
        {{"data.a.b"}, "{\"data\":{\"a\":null}}", NULL},
        {{"data.a"}, "{\"data\":[{\"a\":1},{\"b\":1}]}", "{\"data\":[{},{\"b\":1}]}"},
        /* keys with dots */
        {{"data.custom.cf_x"},
         "{\"data\":{\"custom.cf_x\":1,\"custom.cf_xy\":2}}",
         "{\"data\":{\"custom.cf_xy\":2}}"},
        {{"data.custom.cf_x"},
         "{\"data\":{\"custom\":{\"cf_x\":1,\"cf_y\":2}}}",
         "{\"data\":{\"custom\":{\"cf_y\":2}}}"},
        {{"data.custom"},
         "{\"data\":{\"custom.cf_x\":1,\"custom\":{},\"customer\":2}}",
         "{\"data\":{\"customer\":2}}"},
        {{"data.a.b.c"},
         "{\"data\":{\"a.b\":{\"c\":1,\"d\":2}}}",
         "{\"data\":{\"a.b\":{\"d\":2}}}"},
        /* nothing to cut: every byte stays */
        {{"data.x"},
         " { \"data\" : { \"a\" : [ 1 , { } ] , \"b\":\t{ } } ,\r\n\"meta\":{ } } ",
         "{ \"data\" : { \"a\" : [ 1 , { } ] , \"b\":\t{ } } ,\r\n\"meta\":{ } }"},
        {{"data.x"}, "{}", NULL},
        {{"data.a"}, "{\"data\":null,\"new_member\":{\"a\":1}}", NULL},
        {{"data.a"}, "{\"data\":{ \"a\" : 1 , \"b\" : 2 }}", "{\"data\":{ \"b\" : 2 }}"},
        {{"data.b"}, "{\"data\":{ \"a\" : 1 , \"b\" : 2 }}", "{\"data\":{ \"a\" : 1 }}"},
    };

    (void)state;
    CHECK(FIELDS_DROP, cases);
}

static void keep_cuts_the_rest_of_data(void **state)
{
    static const struct policy_case cases[] = {
        {{"data.b"},
         "{\"data\":{\"a\":1,\"b\":{\"x\":[1]},\"c\":3}}",
         "{\"data\":{\"b\":{\"x\":[1]}}}"},
        {{"data.a", "data.c"},
         "{\"data\":{\"a\":1,\"b\":2,\"c\":3}}",
         "{\"data\":{\"a\":1,\"c\":3}}"},
        {{"data.x"}, "{\"data\":{\"a\":1,\"b\":2}}", "{\"data\":{}}"},
        {{"data.a"},
         "{\"data\":{\"b\":1},\"previous_data\":{\"a\":0,\"b\":0}}",
         "{\"data\":{},\"previous_data\":{\"a\":0}}"},
        /* what else the event has stays, as far as it is known */
        {{"data.a"},
         "{\"id\":\"e\",\"meta\":{\"x\":1},\"later\":1,\"changed_fields\":[\"b\"]}",
         "{\"id\":\"e\",\"meta\":{\"x\":1},\"changed_fields\":[\"b\"]}"},
        {{"data.a"}, "{\"m\\u0065ta\":{},\"l\\u0061ter\":1}", "{\"m\\u0065ta\":{}}"},
        /* deeper, and into arrays */
        {{"data.contacts.name"},
         "{\"data\":{\"contacts\":[{\"emails\":[1],\"name\":1},5,null,[\"x\",{\"name\":2}]]}}",
         "{\"data\":{\"contacts\":[{\"name\":1},null,[{\"name\":2}]]}}"},
        {{"data.a.b"}, "{\"data\":{\"a\":\"secret\",\"b\":1}}", "{\"data\":{}}"},
        {{"data.a.b"}, "{\"data\":{\"a\":null}}", NULL},
        {{"data.a"}, "{\"data\":null}", NULL},
        {{"data.a"}, "{\"data\":\"secret\",\"id\":\"e\"}", "{\"id\":\"e\"}"},
        /* keys with dots */
        {{"data.custom.cf_x"},
         "{\"data\":{\"custom.cf_x\":1,\"custom.cf_y\":2,\"custom\":3}}",
         "{\"data\":{\"custom.cf_x\":1}}"},
        {{"data.custom"},
         "{\"data\":{\"custom.cf_x\":1,\"customer\":2}}",
         "{\"data\":{\"custom.cf_x\":1}}"},
        {{"data.a"}, "{ \"data\" : { \"a\" : 1 } }", NULL},
    };

    (void)state;
    CHECK(FIELDS_KEEP, cases);
}

static void deep_arrays_are_walked_once(void **state)
{
    enum { DEPTH = 1000, FILL = 1000000 };
    const char *const paths[MAX_PATHS_OF_A_CASE] = {"data.a.b"};
    struct field_policy *policy = policy_of(FIELDS_DROP, paths);
    struct buf event = {0};
    struct buf out = {0};

    (void)state;
    buf_append_string(&event, "{\"data\":{\"a\":");
    for (int i = 0; i < DEPTH; i++)
        buf_append_char(&event, '[');
    buf_append_string(&event, "{\"c\":\"");
    for (int i = 0; i < FILL; i++)
        buf_append_char(&event, 'x');
    buf_append_string(&event, "\"}");
    for (int i = 0; i < DEPTH; i++)
        buf_append_char(&event, ']');
    buf_append_string(&event, "}}");
    for (int i = 0; i < 20; i++) { /* at a byte a level it would take minutes */
        buf_clear(&out);
        field_policy_apply(policy, buf_text(&event), &out);
    }
    assert_true(text_equal(buf_text(&out), buf_text(&event)));
    buf_release(&out);
    buf_release(&event);
    field_policy_free(policy);
}

static void paths_that_stand_for_nothing_are_refused(void **state)
{
    static const struct {
        enum field_policy_kind kind;
        const char *path;
        const char *says;
    } cases[] = {
        {FIELDS_DROP, "", "is no path"},
        {FIELDS_DROP, ".", "is no path"},
        {FIELDS_DROP, "data.", "is no path"},
        {FIELDS_DROP, ".data", "is no path"},
        {FIELDS_DROP, "data..a", "is no path"},
        {FIELDS_DROP, "data.a\nb", "is no path"},
        {FIELDS_DROP, "data.contacts.0.emails", "into every element of an array by itself"},
        {FIELDS_DROP, "data.contacts[].emails", "into arrays by itself"},
        {FIELDS_DROP, "data.*", "into arrays by itself"},
        {FIELDS_DROP, "emails", "as data.emails"},
        {FIELDS_KEEP, "emails", "as data.emails"},
        {FIELDS_DROP, "custom.cf_x", "as data.custom.cf_x"},
        {FIELDS_DROP, "previous_data.emails", "write data.emails"},
        {FIELDS_KEEP, "previous_data", "keep says what stays of data"},
        {FIELDS_KEEP, "data", "keep says what stays of data"},
        {FIELDS_KEEP, "meta", "keep says what stays of data"},
        {FIELDS_DROP, "id", "it stays"},
        {FIELDS_DROP, "object_type", "it stays"},
        {FIELDS_DROP, "action", "it stays"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct field_policy *policy = field_policy_new(cases[i].kind);
        struct error err = {0};

        print_message("%s\n", cases[i].path);
        assert_int_equal(field_policy_add(policy, text_of(cases[i].path), &err), -1);
        assert_int_equal(err.kind, ERROR_CONFIG);
        if (!strstr(err.message, cases[i].says))
            fail_msg("%s is not in %s", cases[i].says, err.message);
        field_policy_free(policy);
    }
}

static void there_is_a_limit_of_paths(void **state)
{
    struct field_policy *policy = field_policy_new(FIELDS_DROP);
    struct error err = {0};
    char path[300];

    (void)state;
    for (int i = 0; i < 256; i++) {
        snprintf(path, sizeof(path), "data.f%d", i);
        assert_int_equal(field_policy_add(policy, text_of(path), &err), 0);
    }
    assert_int_equal(field_policy_add(policy, text_of("data.more"), &err), -1);
    memset(path, 'x', sizeof(path));
    assert_int_equal(field_policy_add(policy, (struct text){path, sizeof(path)}, &err), -1);
    field_policy_free(policy);
}

static void it_can_be_shown(void **state)
{
    const char *const paths[MAX_PATHS_OF_A_CASE] = {"data.a", "data.a \"b\".c", NULL};
    struct field_policy *policy = policy_of(FIELDS_KEEP, paths);
    struct buf json = {0};

    (void)state;
    field_policy_append_json(policy, &json);
    assert_string_equal(json.data, "{\"keep\":[\"data.a\",\"data.a \\\"b\\\".c\"]}");
    buf_release(&json);
    field_policy_free(policy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drop_cuts_what_its_paths_stand_for),
        cmocka_unit_test(keep_cuts_the_rest_of_data),
        cmocka_unit_test(deep_arrays_are_walked_once),
        cmocka_unit_test(paths_that_stand_for_nothing_are_refused),
        cmocka_unit_test(there_is_a_limit_of_paths),
        cmocka_unit_test(it_can_be_shown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
