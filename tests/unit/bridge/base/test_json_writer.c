#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/buf.h"
#include "bridge/base/json_writer.h"

static void one_member_a_line(void **state)
{
    struct buf out = {0};
    struct json_writer writer = {.out = &out};

    (void)state;
    json_writer_open_object(&writer, NULL);
    json_writer_string(&writer, "text", "a \"b\"\n");
    json_writer_printf(&writer, "made", "%d%%", 7);
    json_writer_open_array(&writer, "list");
    json_writer_int(&writer, NULL, -1);
    json_writer_bool(&writer, NULL, true);
    json_writer_open_object(&writer, NULL);
    json_writer_close_object(&writer);
    json_writer_reference(&writer, NULL, "#/%s", "x");
    json_writer_close_array(&writer);
    json_writer_open_array(&writer, "empty");
    json_writer_close_array(&writer);
    json_writer_json(&writer, "json", text_of("[1, 2]"));
    json_writer_close_object(&writer);
    assert_string_equal(out.data, "{\n"
                                  "  \"text\": \"a \\\"b\\\"\\u000a\",\n"
                                  "  \"made\": \"7%\",\n"
                                  "  \"list\": [\n"
                                  "    -1,\n"
                                  "    true,\n"
                                  "    {},\n"
                                  "    {\"$ref\": \"#/x\"}\n"
                                  "  ],\n"
                                  "  \"empty\": [],\n"
                                  "  \"json\": [1, 2]\n"
                                  "}");
    buf_release(&out);
}

static void a_made_string_is_cut_at_its_limit(void **state)
{
    struct buf out = {0};
    struct json_writer writer = {.out = &out};
    char longer[5000];

    (void)state;
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    json_writer_printf(&writer, NULL, "%s", longer);
    assert_int_equal(out.size, 4095 + 2);
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_member_a_line),
        cmocka_unit_test(a_made_string_is_cut_at_its_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
