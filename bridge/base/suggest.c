#include "bridge/base/suggest.h"

#include <string.h>

enum { LONGEST = 64 };

static size_t smallest(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Edits (insert, delete, replace, swap of neighbours) from `a` to `b`; both at most LONGEST. */
static size_t edit_distance(struct text a, struct text b)
{
    size_t rows[3][LONGEST + 1];
    size_t *before = rows[0];
    size_t *above = rows[1];
    size_t *row = rows[2];

    for (size_t j = 0; j <= b.size; j++)
        above[j] = before[j] = j;
    for (size_t i = 1; i <= a.size; i++) {
        size_t *recycled = before;

        row[0] = i;
        for (size_t j = 1; j <= b.size; j++) {
            size_t replaced = above[j - 1] + (a.data[i - 1] != b.data[j - 1]);

            row[j] = smallest(smallest(above[j], row[j - 1]) + 1, replaced);
            if (i > 1 && j > 1 && a.data[i - 1] == b.data[j - 2] && a.data[i - 2] == b.data[j - 1])
                row[j] = smallest(row[j], before[j - 2] + 1);
        }
        before = above;
        above = row;
        row = recycled;
    }
    return above[b.size];
}

void suggestion_offer(struct suggestion *suggestion, const char *name)
{
    struct text word = suggestion->word;
    struct text known = text_of(name);
    size_t distance;

    if (word.size == 0 || word.size > LONGEST || known.size > LONGEST)
        return;
    distance = edit_distance(word, known);
    if (distance > 1 + known.size / 4 || distance >= known.size)
        return;
    if (!suggestion->name || distance < suggestion->distance) {
        suggestion->name = name;
        suggestion->distance = distance;
    }
}

const char *suggest(struct text word, const char *const *names)
{
    struct suggestion suggestion = {.word = word};

    for (; *names; names++)
        suggestion_offer(&suggestion, *names);
    return suggestion.name;
}
