#include "schemas/event_members.h"

#include <stddef.h>

static const char *const members[] = {
    "id",         "date_created", "date_updated",    "organization_id", "user_id",
    "request_id", "api_key_id",   "oauth_client_id", "oauth_scope",     "object_type",
    "object_id",  "lead_id",      "action",          "changed_fields",  "meta",
    "data",       "previous_data"};

bool event_has_member(struct text name)
{
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        if (text_equal_string(name, members[i]))
            return true;
    }
    return false;
}
