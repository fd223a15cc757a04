#include "tests/unit/bridge/config/config_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/buf.h"
#include "bridge/config/config.h"

struct config *fixture_parse(const char *yaml, struct buf *messages)
{
    return config_parse("c.yaml", text_of(yaml), messages);
}

struct config *fixture_parse_good(const char *yaml)
{
    struct buf messages = {0};
    struct config *config = fixture_parse(yaml, &messages);

    if (messages.size)
        print_error("%s", messages.data);
    assert_int_equal(messages.size, 0);
    assert_non_null(config);
    buf_release(&messages);
    return config;
}

bool fixture_has_line(const struct buf *messages, const char *expected)
{
    size_t size = strlen(expected);

    for (const char *at = messages->data; at && *at; at = strchr(at, '\n') + 1) {
        if (strncmp(at, expected, size) == 0 && at[size] == '\n')
            return true;
    }
    return false;
}

void fixture_check_said(const struct said *cases, size_t count, bool loads)
{
    for (size_t i = 0; i < count; i++) {
        struct buf messages = {0};
        struct config *config = fixture_parse(cases[i].yaml, &messages);

        if ((config != NULL) != loads)
            print_error("%s: %s\n%s", loads ? "refused" : "accepted", cases[i].yaml,
                        messages.data ? messages.data : "");
        assert_string_equal(messages.data ? messages.data : "", cases[i].messages);
        assert_int_equal(config != NULL, loads);
        config_free(config);
        buf_release(&messages);
    }
}
