#include "schemas/json_reader.h"

#include <new>

#include <simdjson.h>

struct json_reader {
    simdjson::dom::parser parser;
};

struct json_reader *json_reader_new(void)
{
    return new (std::nothrow) json_reader;
}

void json_reader_free(struct json_reader *reader)
{
    delete reader;
}

enum json_verdict json_reader_check(struct json_reader *reader, const char *data, size_t size)
{
    simdjson::dom::element element;
    simdjson::error_code error;

    error = reader->parser.parse(data, size, false).get(element);
    if (error == simdjson::SUCCESS)
        return JSON_VALID;
    if (error == simdjson::NUMBER_ERROR)
        return JSON_NUMBER_TOO_LARGE;
    if (error == simdjson::DEPTH_ERROR)
        return JSON_TOO_DEEP;
    if (error == simdjson::MEMALLOC)
        return JSON_NO_MEMORY;
    return JSON_INVALID;
}
