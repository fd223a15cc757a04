"""Close's extra_filter, after its page on webhook filters."""


class BadFilter(ValueError):
    pass


# The members that an operator has besides its type.
MEMBERS = {
    "equals": {"value"},
    "not_equals": {"value"},
    "is_null": set(),
    "non_null": set(),
    "contains": {"value"},
    "and": {"filters"},
    "or": {"filters"},
    "not": {"filter"},
    "field_accessor": {"field", "filter"},
    "any_array_value": {"filter"},
}


def check(extra_filter):
    """Raises BadFilter, with a sentence, for what is not a filter."""
    if not isinstance(extra_filter, dict):
        raise BadFilter("A filter has to be an object.")
    kind = extra_filter.get("type")
    if kind not in MEMBERS:
        raise BadFilter(f"Unknown filter type: {kind!r}.")
    if set(extra_filter) - {"type"} != MEMBERS[kind]:
        raise BadFilter(f"{kind} has the members {sorted(MEMBERS[kind])}.")
    if kind == "field_accessor" and not isinstance(extra_filter["field"], str):
        raise BadFilter("The field of a field_accessor has to be a string.")
    if "filters" in extra_filter and (not isinstance(extra_filter["filters"], list) or not extra_filter["filters"]):
        raise BadFilter(f"The filters of {kind} have to be a list.")
    for child in extra_filter.get("filters", []) + ([extra_filter["filter"]] if "filter" in extra_filter else []):
        check(child)


def equal(left, right):
    """As JSON: true is not 1, "1" is not 1, but 1 is 1.0."""
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(equal, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    return left == right


def contains(container, value):
    if isinstance(container, str):
        return isinstance(value, str) and value in container
    return isinstance(container, list) and any(equal(item, value) for item in container)


def matches(extra_filter, value):
    """Whether `value`, at first the whole event, passes."""
    kind = extra_filter["type"]
    if kind == "equals":
        return equal(value, extra_filter["value"])
    if kind == "not_equals":
        return not equal(value, extra_filter["value"])
    if kind == "is_null":
        return value is None
    if kind == "non_null":
        return value is not None
    if kind == "contains":
        return contains(value, extra_filter["value"])
    if kind == "and":
        return all(matches(child, value) for child in extra_filter["filters"])
    if kind == "or":
        return any(matches(child, value) for child in extra_filter["filters"])
    if kind == "not":
        return not matches(extra_filter["filter"], value)
    if kind == "field_accessor":
        return matches(extra_filter["filter"], value.get(extra_filter["field"]) if isinstance(value, dict) else None)
    return isinstance(value, list) and any(matches(extra_filter["filter"], item) for item in value)
