#include "schemas/json_schemas.h"

#include <assert.h>

const struct json_schema *json_schema_find(struct text name)
{
    for (size_t i = 0; i < json_schemas_size; i++) {
        if (text_equal_string(name, json_schemas[i].name))
            return &json_schemas[i];
    }
    return NULL;
}

/* "activity.note" becomes "activity", "activity" becomes "". */
static struct text without_last_part(struct text object_type)
{
    while (object_type.size > 0 && object_type.data[object_type.size - 1] != '.')
        object_type.size--;
    object_type.size -= object_type.size > 0;
    return object_type;
}

const struct json_schema *json_schema_of_type(struct text object_type)
{
    const struct json_schema *of_all = json_schema_find(text_of("event"));

    assert(of_all);
    for (; object_type.size > 0; object_type = without_last_part(object_type)) {
        const struct json_schema *found = json_schema_find(object_type);

        if (found && found->is_family)
            return found;
    }
    return of_all;
}
