"""The JSON Schemas of schemas/json, as a consumer reads them: files that refer to each other."""
import json
import pathlib

import jsonschema

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "schemas" / "json"


def names():
    """Of every schema: event, cloudevent, events/lead ..."""
    return sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.json"))


def load(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def of_type(object_type):
    """The schema of an object type's events: the longest prefix that has one, else that of all events."""
    parts = object_type.split(".")
    for size in range(len(parts), 0, -1):
        name = "events/" + ".".join(parts[:size])
        if (FOLDER / f"{name}.json").exists():
            return name
    return "event"


def validator(name, kind=jsonschema.Draft202012Validator):
    schema = load(name)
    base = (FOLDER / f"{name}.json").as_uri()
    return kind(schema, resolver=jsonschema.RefResolver(base, schema))


def mistakes(name, value):
    """What the schema says against a value; empty when it is fine."""
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in validator(name).iter_errors(value)]


def check(name, value):
    found = mistakes(name, value)
    assert not found, f"{name}: {found[:3]}: {json.dumps(value)[:2000]}"
