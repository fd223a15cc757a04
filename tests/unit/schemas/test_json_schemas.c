#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "schemas/catalog.h"
#include "schemas/json_schemas.h"

static void every_pair_of_the_catalog_has_a_schema_of_its_family(void **state)
{
    (void)state;
    for (size_t i = 0; i < catalog_size; i++) {
        const struct json_schema *schema =
            json_schema_of_type(text_of(catalog_pairs[i].object_type));

        if (!schema->is_family)
            fail_msg("%s has none", catalog_pairs[i].object_type);
    }
}

static void the_longest_prefix_of_whole_parts_decides(void **state)
{
    static const struct {
        const char *object_type;
        const char *schema;
    } cases[] = {
        {"lead", "lead"},
        {"activity.note", "activity.note"},
        {"activity.note.of.tomorrow", "activity.note"},
        {"activity.of_tomorrow", "activity"},
        {"activity", "activity"},
        {"task.missed_call", "task"},
        {"leads", "event"},
        {"of.tomorrow", "event"},
        {"", "event"},
        {"body", "event"}, /* a schema, but of no object type */
        {"cloudevent", "event"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_string_equal(json_schema_of_type(text_of(cases[i].object_type))->name,
                            cases[i].schema);
}

/* The tests that read the document as consumers do follow every reference; this is for names. */
static void schemas_are_found_by_their_names(void **state)
{
    static const char local[] = "\"#/components/schemas/lead/$defs/object\"";
    const struct json_schema *lead = json_schema_find(text_of("lead"));

    (void)state;
    assert_non_null(lead);
    assert_true(lead->json.data[0] == '{' && lead->json.data[lead->json.size - 1] == '}');
    assert_non_null(memmem(lead->json.data, lead->json.size, local, strlen(local)));
    assert_null(memmem(lead->json.data, lead->json.size, ".json", strlen(".json")));
    assert_null(memmem(lead->json.data, lead->json.size, "$schema", strlen("$schema")));
    assert_null(json_schema_find(text_of("leads")));
    assert_null(json_schema_find(text_of("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_of_the_catalog_has_a_schema_of_its_family),
        cmocka_unit_test(the_longest_prefix_of_whole_parts_decides),
        cmocka_unit_test(schemas_are_found_by_their_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
