#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/buf.h"
#include "schemas/catalog.h"

static void append_csv(struct buf *out, const char *value)
{
    if (!strchr(value, '"')) {
        buf_append_string(out, value);
        return;
    }
    buf_append_char(out, '"');
    for (; *value; value++) {
        if (*value == '"')
            buf_append_char(out, '"');
        buf_append_char(out, *value);
    }
    buf_append_char(out, '"');
}

static void the_table_is_the_file(void **state)
{
    struct buf made = {0};
    char *file;
    size_t size;
    FILE *stream = fopen(CATALOG_CSV, "rb");

    (void)state;
    assert_non_null(stream);
    file = test_malloc(1 << 16);
    size = fread(file, 1, 1 << 16, stream);
    fclose(stream);
    buf_append_string(&made, "category,label,object_type,action,status,group\n");
    for (size_t i = 0; i < catalog_size; i++) {
        const struct catalog_pair *pair = &catalog_pairs[i];

        buf_printf(&made, "%s,", pair->category);
        append_csv(&made, pair->label);
        buf_printf(&made, ",%s,%s,%s,%s\n", pair->object_type, pair->action,
                   catalog_status_name(pair->status), pair->group);
    }
    assert_int_equal(made.size, size);
    assert_memory_equal(made.data, file, size);
    test_free(file);
    buf_release(&made);
}

static void every_pair_is_found_and_is_there_once(void **state)
{
    (void)state;
    assert_int_equal(catalog_size, 161);
    for (size_t i = 0; i < catalog_size; i++) {
        const struct catalog_pair *pair = &catalog_pairs[i];

        assert_ptr_equal(catalog_find(text_of(pair->object_type), text_of(pair->action)), pair);
    }
}

static void other_pairs_are_not_found(void **state)
{
    static const struct {
        const char *object_type;
        const char *action;
    } cases[] = {
        {"lead", "sent"},
        {"lead", ""},
        {"", "created"},
        {"", ""},
        {"leadc", "reated"},
        {"leadcreated", ""},
        {"Lead", "created"},
        {"lea", "created"},
        {"lead", "create"},
        {"custom_activity", "created"}, /* the parser resolves it to activity.custom_activity */
        {"note", "created"},
        {"opportunity", "status_change"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_null(catalog_find(text_of(cases[i].object_type), text_of(cases[i].action)));
    assert_null(catalog_find((struct text){NULL, 0}, (struct text){NULL, 0}));
}

static void a_pair_says_what_it_is(void **state)
{
    static const struct {
        const char *object_type;
        const char *action;
        const char *category;
        const char *label;
        const char *group;
        const char *status;
    } cases[] = {
        {"status.lead", "updated", "close_account_setup", "Status (Lead) Updated", "Statuses",
         "documented"},
        {"membership", "activated", "close_account_setup", "Membership Activated",
         "Users & Permissions", "documented"},
        {"bulk_action.edit", "created", "bulk_action", "Bulk Action Created", "", "documented"},
        {"activity.custom_activity", "created", "custom_activity", "Custom Activity Created", "",
         "documented"},
        {"activity.call", "updated", "call", "Call Updated", "", "discouraged"},
        {"saved_search", "deleted", "close_account_setup", "Saved Search Deleted", "", "disputed"},
        {"activity.created", "deleted", "lead", "Activity \"Created\" (lead created) Deleted", "",
         "observed"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct catalog_pair *pair =
            catalog_find(text_of(cases[i].object_type), text_of(cases[i].action));

        assert_non_null(pair);
        assert_string_equal(pair->category, cases[i].category);
        assert_string_equal(pair->label, cases[i].label);
        assert_string_equal(pair->group, cases[i].group);
        assert_string_equal(catalog_status_name(pair->status), cases[i].status);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_the_file),
        cmocka_unit_test(every_pair_is_found_and_is_there_once),
        cmocka_unit_test(other_pairs_are_not_found),
        cmocka_unit_test(a_pair_says_what_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
