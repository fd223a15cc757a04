/*
 * The JSON Schemas of schemas/json, compiled in as an AsyncAPI document holds them: under
 * #/components/schemas, which is where their references to each other go. Their files are of
 * draft 2020-12, and mean the same to readers of draft 7, which AsyncAPI builds on.
 *
 * Read-only, any thread.
 */
#ifndef SCHEMAS_JSON_SCHEMAS_H
#define SCHEMAS_JSON_SCHEMAS_H

#include <stdbool.h>
#include <stddef.h>

#include "bridge/base/text.h"

struct json_schema {
    const char *name; /* event, cloudevent, lead, activity.note ... */
    struct text json; /* indented by six spaces behind its first line */
    bool is_family;   /* of the events of an object type, or of all that begin with its name */
};

extern const struct json_schema json_schemas[];
extern const size_t json_schemas_size;

/* NULL when there is none of this name. */
const struct json_schema *json_schema_find(struct text name);

/* The schema of an object type's events: that of the longest prefix that has one, else of all
 * events. Never NULL. */
const struct json_schema *json_schema_of_type(struct text object_type);

#endif
