#include "bridge/cli/cli_json.h"

#include <stdio.h>

#include "bridge/base/buf.h"
#include "schemas/json_compare.h"
#include "schemas/json_reader.h"
#include "schemas/json_scan.h"

static bool complain(const char *command)
{
    fprintf(stderr, "close-bridge %s: the answer is not that of a close-bridge\n", command);
    return false;
}

bool cli_json_check(const char *command, struct text answer, struct text *out_document)
{
    struct json_reader *reader = json_reader_new();
    bool is_json = reader && json_reader_check(reader, answer.data, answer.size) == JSON_VALID;
    struct json_cursor cursor;

    json_reader_free(reader);
    *out_document = json_document(answer);
    return (is_json && json_object_begin(&cursor, *out_document)) || complain(command);
}

bool cli_json_check_list(const char *command, struct text answer, const char *name,
                         struct text *out_document, struct json_cursor *out_items)
{
    if (!cli_json_check(command, answer, out_document))
        return false;
    return json_array_begin(out_items, cli_json_member(*out_document, name)) || complain(command);
}

struct text cli_json_member(struct text object, const char *name)
{
    struct text value;

    return json_find_member(object, text_of(name), &value) ? value : (struct text){NULL, 0};
}

const char *cli_json_plain(struct text string, struct buf *out)
{
    buf_clear(out);
    if (json_is_string(string))
        json_unescape(json_string_inside(string), out);
    for (size_t i = 0; i < out->size; i++) {
        if ((unsigned char)out->data[i] < 0x20 || out->data[i] == 0x7f)
            out->data[i] = ' ';
    }
    return buf_text(out).data;
}

void cli_json_print(struct text object, const char *name, int width)
{
    struct text value = cli_json_member(object, name);
    struct buf plain = {0};

    if (json_is_string(value))
        printf("%-*s", width, cli_json_plain(value, &plain));
    else if (value.size)
        printf("%-*.*s", width, (int)value.size, value.data);
    else
        printf("%-*s", width, "-");
    buf_release(&plain);
}
