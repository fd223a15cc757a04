#include "schemas/json_reader.h"

#include <new>

#include <simdjson.h>

extern "C" {
#include "schemas/json_tokens.h"
}

static_assert(JSON_PADDING >= simdjson::SIMDJSON_PADDING, "simdjson reads further ahead");
static_assert(JSON_MAX_DEPTH == simdjson::DEFAULT_MAX_DEPTH, "simdjson has another limit");

namespace
{

/* The parser's memory is about 14 times its capacity: what is above this does not stay. */
constexpr size_t kept_capacity = size_t{1} << 20;
constexpr size_t least_capacity = size_t{1} << 14;

/* Capacities are powers of two, so that slowly growing texts do not allocate each time. */
simdjson::error_code fit_capacity(simdjson::dom::parser &parser, size_t size)
{
    size_t capacity = least_capacity;
    simdjson::error_code error;

    if (parser.capacity() >= size && (parser.capacity() <= kept_capacity || size > kept_capacity))
        return simdjson::SUCCESS;
    while (capacity < size)
        capacity *= 2;
    error = parser.allocate(capacity);
    return error ? error : parser.doc.allocate(capacity);
}

} // namespace

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

/* Those calls of simdjson that return codes do not throw. */
enum json_verdict json_reader_check(struct json_reader *reader, const char *data, size_t size)
{
    simdjson::error_code error = fit_capacity(reader->parser, size);

    if (!error)
        error = reader->parser.parse(data, size, false).error();
    if (error == simdjson::SUCCESS)
        return JSON_VALID;
    if (error == simdjson::NUMBER_ERROR)
        return JSON_NUMBER_TOO_LARGE;
    if (error == simdjson::DEPTH_ERROR)
        return JSON_TOO_DEEP;
    if (error == simdjson::MEMALLOC || error == simdjson::CAPACITY)
        return JSON_NO_MEMORY;
    return JSON_INVALID;
}

/* The parser's first stage has found the tokens anyway; a second pass would cost as much as the
 * first. */
void json_reader_tokens(const struct json_reader *reader, const char *json,
                        struct json_tokens *out_tokens)
{
    out_tokens->json = json;
    out_tokens->starts = reader->parser.implementation->structural_indexes.get();
    out_tokens->count = reader->parser.implementation->n_structural_indexes;
}
