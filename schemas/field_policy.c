#include "schemas/field_policy.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "schemas/event_members.h"
#include "schemas/json_scan.h"

enum { MAX_PATHS = 256, MAX_PATH = 256 };

/* A name of a path; the children are what may follow it. */
struct node {
    char *name;
    struct node **children;
    size_t child_count;
    bool is_end; /* a path ends here: it stands for all below */
};

struct field_policy {
    enum field_policy_kind kind;
    struct node root; /* of the event */
    char *paths[MAX_PATHS];
    size_t path_count;
};

static void release_node(struct node *node)
{
    for (size_t i = 0; i < node->child_count; i++) {
        release_node(node->children[i]);
        free(node->children[i]);
    }
    free(node->children);
    free(node->name);
}

struct field_policy *field_policy_new(enum field_policy_kind kind)
{
    struct field_policy *policy = calloc(1, sizeof(*policy));

    if (policy)
        policy->kind = kind;
    return policy;
}

void field_policy_free(struct field_policy *policy)
{
    if (!policy)
        return;
    release_node(&policy->root);
    for (size_t i = 0; i < policy->path_count; i++)
        free(policy->paths[i]);
    free(policy);
}

/* ---- paths ---- */

/* Takes the name before the next dot off `path`. */
static struct text take_name(struct text *path)
{
    const char *dot = path->size ? memchr(path->data, '.', path->size) : NULL;
    struct text name = {path->data, dot ? (size_t)(dot - path->data) : path->size};
    size_t taken = name.size + (dot ? 1 : 0);

    path->data += taken;
    path->size -= taken;
    return name;
}

static bool is_number(struct text name)
{
    for (size_t i = 0; i < name.size; i++) {
        if (name.data[i] < '0' || name.data[i] > '9')
            return false;
    }
    return true; /* an empty one too */
}

static int check_names(struct text path, struct error *err)
{
    bool ends_with_dot = path.size > 0 && path.data[path.size - 1] == '.';

    if (path.size == 0 || path.size > MAX_PATH || text_has_control(path) || ends_with_dot)
        return error_set(err, ERROR_CONFIG,
                         "is no path: names with dots between, such as data.emails");
    if (memchr(path.data, '[', path.size) || memchr(path.data, '*', path.size))
        return error_set(err, ERROR_CONFIG,
                         "is no path: it reaches into arrays by itself, as data.contacts.emails");
    while (path.size > 0) {
        if (is_number(take_name(&path)))
            return error_set(err, ERROR_CONFIG,
                             "is no path: names with dots between; it reaches into every element "
                             "of an array by itself, as data.contacts.emails");
    }
    return 0;
}

static int check_place(enum field_policy_kind kind, struct text path, struct error *err)
{
    static const char *const needed[] = {"id", "object_type", "action"};
    struct text rest = path;
    struct text first = take_name(&rest);

    if (!event_has_member(first))
        return error_set(err, ERROR_CONFIG,
                         "is not in an event; the fields of the record are under data, as "
                         "data.%.*s",
                         (int)(path.size > 64 ? 64 : path.size), path.data);
    if (text_equal_string(first, "previous_data") && rest.size > 0)
        return error_set(err, ERROR_CONFIG, "write data.%.*s, which stands for previous_data too",
                         (int)(rest.size > 64 ? 64 : rest.size), rest.data);
    if (kind == FIELDS_KEEP && (!text_equal_string(first, "data") || rest.size == 0))
        return error_set(err, ERROR_CONFIG,
                         "keep says what stays of data, as data.name; the rest of the event stays");
    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
        if (text_equal_string(first, needed[i]))
            return error_set(err, ERROR_CONFIG, "is what consumers know an event by: it stays");
    }
    return 0;
}

static struct node *find_child(const struct node *node, struct text name)
{
    for (size_t i = 0; i < node->child_count; i++) {
        if (text_equal_string(name, node->children[i]->name))
            return node->children[i];
    }
    return NULL;
}

static struct node *add_child(struct node *node, struct text name)
{
    struct node **children =
        realloc(node->children, (node->child_count + 1) * sizeof(struct node *));
    struct node *child = calloc(1, sizeof(*child));

    if (children)
        node->children = children;
    if (child)
        child->name = text_dup(name);
    if (!children || !child || !child->name) {
        free(child);
        return NULL;
    }
    children[node->child_count++] = child;
    return child;
}

static int add_path(struct field_policy *policy, struct text path)
{
    struct node *node = &policy->root;

    policy->paths[policy->path_count] = text_dup(path);
    if (!policy->paths[policy->path_count])
        return -1;
    policy->path_count++;
    while (path.size > 0) {
        struct text name = take_name(&path);
        struct node *child = find_child(node, name);

        node = child ? child : add_child(node, name);
        if (!node)
            return -1;
    }
    node->is_end = true;
    return 0;
}

int field_policy_add(struct field_policy *policy, struct text path, struct error *err)
{
    if (check_names(path, err) < 0 || check_place(policy->kind, path, err) < 0)
        return -1;
    for (size_t i = 0; i < policy->path_count; i++) {
        if (text_equal_string(path, policy->paths[i]))
            return error_set(err, ERROR_CONFIG, "is in the list already");
    }
    if (policy->path_count == MAX_PATHS)
        return error_set(err, ERROR_CONFIG, "is one too many: there may be %d", MAX_PATHS);
    return add_path(policy, path) < 0 ? error_set(err, ERROR_FATAL, "out of memory") : 0;
}

void field_policy_append_json(const struct field_policy *policy, struct buf *json)
{
    buf_printf(json, "{\"%s\":[", policy->kind == FIELDS_KEEP ? "keep" : "drop");
    for (size_t i = 0; i < policy->path_count; i++) {
        if (i > 0)
            buf_append_char(json, ',');
        buf_append_json_string(json, text_of(policy->paths[i]));
    }
    buf_append_string(json, "]}");
}

/* ---- cutting: one walk over the bytes, nothing is written anew ---- */

enum verdict { STAYS, IS_CUT, IS_ENTERED };

struct walk {
    const struct field_policy *policy;
    struct json_cursor cursor;
    struct buf *out;
    struct buf key; /* decoded */
};

static void append_range(struct walk *walk, const char *from, const char *to)
{
    buf_append(walk->out, from, (size_t)(to - from));
}

/* What the paths under `node` say of a key, which may have dots of its own. Sets the node below
 * which its value is; NULL when no path goes there, and one that is an end when all of it does. */
static const struct node *follow(struct walk *walk, const struct node *node, struct text key)
{
    if (json_has_escape(key)) {
        buf_clear(&walk->key);
        json_unescape(key, &walk->key);
        key = buf_text(&walk->key);
    }
    do {
        node = find_child(node, take_name(&key));
    } while (node && !node->is_end && key.size > 0);
    return node;
}

/* The same of a member of the event itself. */
static enum verdict judge_top(struct walk *walk, struct text key, const struct node **out_node)
{
    const struct node *root = &walk->policy->root;
    const struct node *node = follow(walk, root, key);

    if (json_key_is(key, "previous_data") && !node)
        node = follow(walk, root, text_of("data"));
    *out_node = node;
    if (node)
        return node->is_end ? IS_CUT : IS_ENTERED;
    if (walk->policy->kind == FIELDS_DROP)
        return STAYS;
    if (json_has_escape(key)) /* decoded by follow() */
        key = buf_text(&walk->key);
    return event_has_member(key) ? STAYS : IS_CUT;
}

static enum verdict judge(struct walk *walk, const struct node *parent, struct text key,
                          const struct node **out_node)
{
    bool is_drop = walk->policy->kind == FIELDS_DROP;
    const struct node *node = follow(walk, parent, key);

    *out_node = node;
    if (!node)
        return is_drop ? STAYS : IS_CUT;
    if (node->is_end)
        return is_drop ? IS_CUT : STAYS;
    return IS_ENTERED;
}

static bool is_container(struct text token)
{
    return *token.data == '{' || *token.data == '[';
}

/* What is to be entered and cannot be holds nothing that a path stands for. */
static enum verdict judge_value(const struct walk *walk, enum verdict verdict, struct text token)
{
    if (verdict != IS_ENTERED || is_container(token))
        return verdict;
    return walk->policy->kind == FIELDS_DROP || json_is_null(token) ? STAYS : IS_CUT;
}

static void cut_container(struct walk *walk, const char *start, const struct node *node,
                          bool is_event);

/* Behind the comma that begins `from`, if one does. */
static const char *skip_comma(const char *from)
{
    const char *at = from;

    while (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')
        at++;
    return *at == ',' ? at + 1 : from;
}

/*
 * Copies a member or element, from behind the one before, or leaves it out; `token` is the first
 * one of its value. The comma before it goes with it, unless nothing was copied yet.
 */
static void copy_or_cut(struct walk *walk, const char *from, struct text token,
                        enum verdict verdict, const struct node *node, bool *is_first)
{
    if (verdict != IS_CUT) {
        from = *is_first ? skip_comma(from) : from;
        *is_first = false;
    }
    if (verdict == IS_ENTERED) {
        append_range(walk, from, token.data);
        cut_container(walk, token.data, node, false);
        return;
    }
    if (is_container(token)) {
        token = json_document((struct text){token.data, (size_t)(walk->cursor.end - token.data)});
        walk->cursor.at = token.data + token.size;
    }
    if (verdict == STAYS)
        append_range(walk, from, walk->cursor.at);
}

/* One member or element. False at the end of the container. */
static bool cut_next(struct walk *walk, bool is_object, const struct node *node, bool is_event,
                     bool *is_first)
{
    const struct node *below = node;
    const char *from = walk->cursor.at;
    enum verdict verdict = IS_ENTERED; /* elements of arrays */
    struct text token;

    if (!json_tokens_next(&walk->cursor, &token) || *token.data == '}' || *token.data == ']') {
        append_range(walk, from, walk->cursor.at);
        return false;
    }
    if (is_object) {
        struct text key = json_string_inside(token);

        verdict = is_event ? judge_top(walk, key, &below) : judge(walk, node, key, &below);
        if (!json_tokens_next(&walk->cursor, &token))
            return false;
    }
    copy_or_cut(walk, from, token, judge_value(walk, verdict, token), below, is_first);
    return true;
}

/* `start` is its bracket, which the cursor is behind. Arrays can be nested as deep as the parser
 * lets them: JSON_MAX_DEPTH. */
static void cut_container(struct walk *walk, const char *start, const struct node *node,
                          bool is_event)
{
    bool is_first = true;

    buf_append_char(walk->out, *start);
    while (cut_next(walk, *start == '{', node, is_event, &is_first))
        ;
}

void field_policy_apply(const struct field_policy *policy, struct text event_object,
                        struct buf *out)
{
    struct walk walk = {.policy = policy, .out = out};
    struct text token;

    json_tokens_begin(&walk.cursor, event_object);
    if (json_tokens_next(&walk.cursor, &token) && *token.data == '{')
        cut_container(&walk, token.data, &policy->root, true);
    out->failed = out->failed || walk.key.failed;
    buf_release(&walk.key);
}
