#include "bridge/cli/simdjson_version.h"

#include <simdjson.h>

#define TEXT_OF(token) #token
#define VERSION_TEXT(token) TEXT_OF(token)

const char *simdjson_version(void)
{
    return VERSION_TEXT(SIMDJSON_VERSION);
}
