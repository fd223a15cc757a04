#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "publishers/topic_template.h"
#include "schemas/event.h"

/* Members that are NULL are absent from the event. */
struct values {
    const char *account;
    const char *object_type;
    const char *action;
    const char *lead_id;
    const char *object_id;
};

static struct event *new_event(const struct values *values)
{
    struct event_origin origin = {.account = text_of(values->account)};
    struct event *event = event_new(&origin, text_of("{}"), 0);
    const struct {
        enum event_field field;
        const char *value;
    } fields[] = {
        {EVENT_OBJECT_TYPE, values->object_type},
        {EVENT_ACTION, values->action},
        {EVENT_LEAD_ID, values->lead_id},
        {EVENT_OBJECT_ID, values->object_id},
        {EVENT_ID, "ev_1"},
        {EVENT_ORGANIZATION_ID, "orga_1"},
    };

    assert_non_null(event);
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (fields[i].value)
            assert_true(event_add_field(event, fields[i].field, text_of(fields[i].value)));
    }
    return event;
}

static const struct values note = {"main", "activity.note", "created", "lead_1", "acti_1"};

static struct topic_template *compiled(const char *source, enum topic_kind kind)
{
    struct error err = {0};
    struct topic_template *template_ = topic_template_compile(text_of(source), kind, &err);

    if (!template_)
        fail_msg("%s: %s", source, err.message);
    return template_;
}

/* `expected` NULL: rendering must refuse, and leave the caller to dead-letter the record. */
static void assert_renders(const char *source, enum topic_kind kind, const struct values *values,
                           const char *expected)
{
    struct topic_template *template_ = compiled(source, kind);
    struct event *event = new_event(values);
    struct error err = {0};
    char name[TOPIC_MAX + 1];
    int rc = topic_template_render(template_, event, name, &err);

    print_message("%s\n", source);
    if (expected) {
        assert_int_equal(rc, 0);
        assert_string_equal(name, expected);
    } else {
        assert_int_equal(rc, -1);
        assert_int_equal(err.kind, ERROR_INPUT);
        assert_true(err.message[0] != '\0');
    }
    event_unref(event);
    topic_template_free(template_);
}

static void variables_are_replaced(void **state)
{
    static const struct {
        const char *source;
        enum topic_kind kind;
        const char *expected;
    } cases[] = {
        {"leads", TOPIC_KAFKA, "leads"},
        {"close.{object_type}", TOPIC_KAFKA, "close.activity.note"},
        {"{account}-{action}_{category}", TOPIC_KAFKA, "main-created_note"},
        {"{object_type}{action}", TOPIC_KAFKA, "activity.notecreated"},
        {"close/{object_type}/{action}", TOPIC_MQTT, "close/activity/note/created"},
        {"{account}/{category}/{lead_id}/{object_id}", TOPIC_MQTT, "main/note/lead_1/acti_1"},
        {"a.b/{action}", TOPIC_MQTT, "a.b/created"},
        {"with space/\xc3\xa4", TOPIC_MQTT, "with space/\xc3\xa4"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_renders(cases[i].source, cases[i].kind, &note, cases[i].expected);
}

static void outside_the_catalog_the_category_is_other(void **state)
{
    static const struct values unknown = {"main", "activity.note", "exploded", NULL, NULL};

    (void)state;
    assert_renders("c.{category}", TOPIC_KAFKA, &unknown, "c.other");
    assert_renders("c/{category}", TOPIC_MQTT, &unknown, "c/other");
}

static void absent_ids_are_a_level_of_their_own_on_mqtt(void **state)
{
    static const struct values bare = {"main", "group", "created", NULL, NULL};

    (void)state;
    assert_renders("c/{lead_id}/{object_id}", TOPIC_MQTT, &bare, "c/none/none");
}

static void only_the_dots_of_the_object_type_become_levels(void **state)
{
    static const struct values dotted = {"a.b", "custom_fields.lead", "created", "lead.1", NULL};

    (void)state;
    assert_renders("{account}/{object_type}/{lead_id}", TOPIC_MQTT, &dotted,
                   "a.b/custom_fields/lead/lead.1");
}

/* TRAPS K7, M12: what must never reach a broker. */
static void values_that_would_leave_their_level_are_refused(void **state)
{
    static const char *const values[] = {
        "a/b",  "/",         "../x",          "+",    "a+b",    "#",
        "a#",   "$SYS",      "$CONTROL/x",    "a\nb", "a\r\nb", "a\x7f",
        "\x01", "a\xc2\x85", "a\xef\xbf\xbf", "\xff", "\xc3",   "a\xed\xa0\x80",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        struct values lead = note;
        struct values object = note;
        struct values account = note;

        lead.lead_id = values[i];
        object.object_id = values[i];
        account.account = values[i];
        assert_renders("close/{lead_id}", TOPIC_MQTT, &lead, NULL);
        assert_renders("close/x{object_id}/y", TOPIC_MQTT, &object, NULL);
        assert_renders("close/{account}", TOPIC_MQTT, &account, NULL);
        assert_renders("close.{account}", TOPIC_KAFKA, &account, NULL);
    }
}

static void a_value_may_hold_a_dollar_that_does_not_lead(void **state)
{
    struct values values = note;

    (void)state;
    values.lead_id = "a$b";
    assert_renders("close/{lead_id}", TOPIC_MQTT, &values, "close/a$b");
    values.lead_id = "..";
    assert_renders("close/{lead_id}", TOPIC_MQTT, &values, "close/..");
}

static void names_that_kafka_keeps_for_itself_are_refused(void **state)
{
    static const char *const accounts[] = {".",   "..",       "__consumer_offsets",
                                           "a b", "\xc3\xa4", "a:b"};

    (void)state;
    for (size_t i = 0; i < sizeof(accounts) / sizeof(accounts[0]); i++) {
        struct values values = note;

        values.account = accounts[i];
        assert_renders("{account}", TOPIC_KAFKA, &values, NULL);
    }
}

static void names_keep_the_brokers_lengths(void **state)
{
    static const struct {
        const char *source;
        enum topic_kind kind;
        size_t longest; /* account that still fits */
    } cases[] = {{"{account}", TOPIC_KAFKA, 249}, {"{account}", TOPIC_MQTT, TOPIC_MAX}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char account[TOPIC_MAX + 2];
        struct values values = note;

        memset(account, 'a', sizeof(account));
        account[cases[i].longest] = '\0';
        values.account = account;
        assert_renders(cases[i].source, cases[i].kind, &values, account);
        account[cases[i].longest] = 'a';
        account[cases[i].longest + 1] = '\0';
        assert_renders(cases[i].source, cases[i].kind, &values, NULL);
    }
}

static void mistakes_are_found_when_compiling(void **state)
{
    static const struct {
        const char *source;
        enum topic_kind kind;
        const char *says; /* part of the message */
    } cases[] = {
        {"", TOPIC_KAFKA, "1 to 249 bytes"},
        {".", TOPIC_KAFKA, "\".\""},
        {"..", TOPIC_KAFKA, "\"..\""},
        {"__x", TOPIC_KAFKA, "\"__\""},
        {"__{account}", TOPIC_KAFKA, "\"__\""},
        {"a/b", TOPIC_KAFKA, "letters, digits"},
        {"a b", TOPIC_KAFKA, "letters, digits"},
        {"a\n", TOPIC_KAFKA, "letters, digits"},
        {"\xc3\xa4", TOPIC_KAFKA, "letters, digits"},
        {"{lead_id}", TOPIC_KAFKA, "{account}, {object_type}, {action}, {category}"},
        {"{object_id}", TOPIC_KAFKA, "{object_id}"},
        {"{event_id}", TOPIC_MQTT, "{lead_id}, {object_id}"},
        {"{objecttype}", TOPIC_KAFKA, "{objecttype}"},
        {"{}", TOPIC_KAFKA, "{}"},
        {"{ account }", TOPIC_KAFKA, "{ account }"},
        {"a{", TOPIC_KAFKA, "brace"},
        {"a}", TOPIC_KAFKA, "brace"},
        {"{account", TOPIC_KAFKA, "brace"},
        {"{account}}", TOPIC_KAFKA, "brace"},
        {"{{account}}", TOPIC_KAFKA, "{{account}"},
        {"", TOPIC_MQTT, "1 to 1024 bytes"},
        {"/a", TOPIC_MQTT, "empty level"},
        {"a/", TOPIC_MQTT, "empty level"},
        {"a//b", TOPIC_MQTT, "empty level"},
        {"/", TOPIC_MQTT, "empty level"},
        {"$SYS/a", TOPIC_MQTT, "\"$\""},
        {"a/+/b", TOPIC_MQTT, "'+'"},
        {"a/#", TOPIC_MQTT, "'#'"},
        {"a\tb", TOPIC_MQTT, "control"},
        {"a\xff", TOPIC_MQTT, "UTF-8"},
        {"a\xef\xbf\xbe", TOPIC_MQTT, "UTF-8"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = {0};

        print_message("%s\n", cases[i].source);
        assert_null(topic_template_compile(text_of(cases[i].source), cases[i].kind, &err));
        assert_int_equal(err.kind, ERROR_CONFIG);
        if (!strstr(err.message, cases[i].says))
            fail_msg("\"%s\" does not say \"%s\"", err.message, cases[i].says);
    }
}

static void a_template_is_not_cut_at_a_nul(void **state)
{
    static const struct text source = {"leads\0/evil", 11};

    (void)state;
    for (int kind = TOPIC_KAFKA; kind <= TOPIC_MQTT; kind++) {
        struct error err = {0};

        assert_null(topic_template_compile(source, (enum topic_kind)kind, &err));
        assert_int_equal(err.kind, ERROR_CONFIG);
    }
    assert_null(key_template_compile(source, NULL));
}

static void a_template_with_too_many_parts_is_refused(void **state)
{
    struct buf source = {0};
    struct error err = {0};

    (void)state;
    for (int i = 0; i < 33; i++)
        buf_append_string(&source, "{action}");
    assert_null(topic_template_compile(buf_text(&source), TOPIC_MQTT, &err));
    buf_release(&source);
    assert_int_equal(err.kind, ERROR_CONFIG);
    assert_non_null(strstr(err.message, "parts"));
}

static void what_a_name_depends_on_is_known(void **state)
{
    static const struct {
        const char *source;
        bool is_fixed_per_pair;
        bool is_constant;
    } cases[] = {
        {"a/b", true, true},
        {"{account}/{object_type}/{action}/{category}", true, false},
        {"a/{lead_id}", false, false},
        {"{action}/{object_id}", false, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct topic_template *template_ = compiled(cases[i].source, TOPIC_MQTT);

        assert_int_equal(topic_template_is_fixed_per_pair(template_), cases[i].is_fixed_per_pair);
        assert_int_equal(topic_template_is_constant(template_), cases[i].is_constant);
        topic_template_free(template_);
    }
}

static void keys_take_every_variable_and_any_byte(void **state)
{
    static const struct values wild = {"main", "activity.note", "created", "a/+#$\n", NULL};
    static const struct {
        const char *source;
        const char *expected;
    } cases[] = {
        {"{object_type}.{action}", "activity.note.created"},
        {"{account}:{category}:{event_id}:{organization_id}", "main:note:ev_1:orga_1"},
        {"{lead_id}", "a/+#$\n"},
        {"<{object_id}>", "<>"},
        {"{object_id}", ""},
    };
    struct event *event = new_event(&wild);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = {0};
        struct topic_template *key = key_template_compile(text_of(cases[i].source), &err);
        char out[128];
        size_t size;

        assert_non_null(key);
        assert_int_equal(key_template_render(key, event, out, sizeof(out), &size), 0);
        assert_int_equal(size, strlen(cases[i].expected));
        assert_memory_equal(out, cases[i].expected, size);
        topic_template_free(key);
    }
    event_unref(event);
}

static void a_key_that_does_not_fit_is_refused_and_nothing_is_written_behind(void **state)
{
    struct topic_template *key = key_template_compile(text_of("{object_type}.{action}"), NULL);
    struct event *event = new_event(&note);
    char out[22] = "";
    size_t size = 99;

    (void)state;
    assert_non_null(key);
    assert_int_equal(key_template_render(key, event, out, 21, &size), 0);
    assert_int_equal(size, 21);
    assert_int_equal(out[21], 0);
    size = 99;
    assert_int_equal(key_template_render(key, event, out, 20, &size), -1);
    assert_int_equal(size, 99);
    event_unref(event);
    topic_template_free(key);
}

static void unknown_variables_of_keys_are_named(void **state)
{
    struct error err = {0};

    (void)state;
    assert_null(key_template_compile(text_of("{id}"), &err));
    assert_int_equal(err.kind, ERROR_CONFIG);
    assert_non_null(strstr(err.message, "{id}"));
    assert_non_null(strstr(err.message, "{organization_id}"));
    topic_template_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(variables_are_replaced),
        cmocka_unit_test(outside_the_catalog_the_category_is_other),
        cmocka_unit_test(absent_ids_are_a_level_of_their_own_on_mqtt),
        cmocka_unit_test(only_the_dots_of_the_object_type_become_levels),
        cmocka_unit_test(values_that_would_leave_their_level_are_refused),
        cmocka_unit_test(a_value_may_hold_a_dollar_that_does_not_lead),
        cmocka_unit_test(names_that_kafka_keeps_for_itself_are_refused),
        cmocka_unit_test(names_keep_the_brokers_lengths),
        cmocka_unit_test(mistakes_are_found_when_compiling),
        cmocka_unit_test(a_template_is_not_cut_at_a_nul),
        cmocka_unit_test(a_template_with_too_many_parts_is_refused),
        cmocka_unit_test(what_a_name_depends_on_is_known),
        cmocka_unit_test(keys_take_every_variable_and_any_byte),
        cmocka_unit_test(a_key_that_does_not_fit_is_refused_and_nothing_is_written_behind),
        cmocka_unit_test(unknown_variables_of_keys_are_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
