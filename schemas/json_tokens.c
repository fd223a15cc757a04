#include "schemas/json_tokens.h"

#include "schemas/json_scan.h"

/* How much deeper a token leads. */
static const signed char steps[256] = {['{'] = 1, ['['] = 1, ['}'] = -1, [']'] = -1};

size_t json_token_skip(const struct json_tokens *tokens, size_t token)
{
    int depth = 0;

    do {
        depth += steps[(unsigned char)json_token(tokens, token++)];
    } while (depth > 0);
    return token;
}

/* From the beginning of a token to the next one, without the space between them. */
static struct text up_to_next(const struct json_tokens *tokens, size_t token)
{
    const char *begin = tokens->json + tokens->starts[token];
    const char *end = tokens->json + tokens->starts[token + 1];

    while (end[-1] == ' ' || end[-1] == '\n' || end[-1] == '\r' || end[-1] == '\t')
        end--;
    return (struct text){begin, (size_t)(end - begin)};
}

struct text json_token_span(const struct json_tokens *tokens, size_t first, size_t last)
{
    uint32_t begin = tokens->starts[first];

    return (struct text){tokens->json + begin, tokens->starts[last] + 1 - begin};
}

struct text json_token_value(const struct json_tokens *tokens, size_t token)
{
    char kind = json_token(tokens, token);

    if (kind != '{' && kind != '[')
        return up_to_next(tokens, token);
    return json_token_span(tokens, token, json_token_skip(tokens, token) - 1);
}

bool json_token_member_here(const struct json_tokens *tokens, size_t *cursor,
                            struct json_member *out_member)
{
    size_t key = *cursor + 1; /* behind the opening brace or a comma */

    if (json_token(tokens, *cursor) == '}')
        return false;
    if (json_token(tokens, key) == '}') {
        *cursor = key;
        return false;
    }
    out_member->key = json_string_inside(up_to_next(tokens, key));
    out_member->value = key + 2; /* a colon lies between them */
    return true;
}

bool json_token_member(const struct json_tokens *tokens, size_t *cursor,
                       struct json_member *out_member)
{
    if (!json_token_member_here(tokens, cursor, out_member))
        return false;
    *cursor = json_token_skip(tokens, out_member->value);
    return true;
}
