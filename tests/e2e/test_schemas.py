"""The JSON Schemas describe what Close sends and what the bridge makes of it, and refuse what is something else."""
import json
import urllib.parse

import jsonschema
import pytest

from tests.e2e.conftest import PAYLOADS
from tests.peers import schemas
from tests.peers.close_events import Maker, catalog, resolved

EVENT_LOG = PAYLOADS.parent / "event_log"
FAMILIES = [name for name in schemas.names() if name.startswith("events/")]
# A value of every type that JSON has.
OF_TYPE = {"string": "text", "integer": 7, "number": 7.5, "boolean": True, "array": [], "object": {}, "null": None}


def references(value):
    if isinstance(value, dict):
        if "$ref" in value:
            yield value
        for member in value.values():
            yield from references(member)
    elif isinstance(value, list):
        for element in value:
            yield from references(element)


@pytest.mark.parametrize("name", schemas.names())
def test_a_schema_is_one_of_2020_12_and_means_the_same_to_older_readers(name):
    schema = schemas.load(name)
    assert schema["$schema"] == jsonschema.Draft202012Validator.META_SCHEMA["$id"]
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft7Validator.check_schema(schema)
    resolver = schemas.validator(name).resolver
    for reference in references(schema):
        assert list(reference) == ["$ref"], "draft 7, and so AsyncAPI, overlooks what stands beside $ref"
        assert not urllib.parse.urlsplit(reference["$ref"]).scheme, "they lie beside each other"
        resolver.resolve(reference["$ref"])


def test_every_pair_of_the_catalog_has_a_schema_of_its_family():
    assert {schemas.of_type(resolved(pair.object_type)) for pair in catalog()} == set(FAMILIES)
    assert schemas.of_type("activity.of_tomorrow") == "events/activity"
    assert schemas.of_type("lead.of_tomorrow") == "events/lead"
    assert schemas.of_type("leads") == schemas.of_type("of.tomorrow") == "event"


def test_events_of_every_pair_are_valid_and_those_of_other_families_are_not():
    maker = Maker(seed=3)
    for pair in catalog():
        name = schemas.of_type(resolved(pair.object_type))
        event = maker.event(pair.object_type, pair.action)
        for value, schema in ((event, "event"), (event, name), ({**event, "of_tomorrow": [1]}, name),
                              ({**event, "data": None, "previous_data": None, "lead_id": None}, name),
                              ({"subscription_id": "whsub_1", "event": event}, "body")):
            schemas.check(schema, value)
        assert schemas.mistakes(name, {**event, "object_type": "of.tomorrow"}) or name == "events/activity"
        for member in ("id", "object_type", "action"):
            assert schemas.mistakes(name, {key: value for key, value in event.items() if key != member})
            assert schemas.mistakes(name, {**event, member: None})


@pytest.mark.parametrize("name", FAMILIES)
def test_a_member_of_a_wrong_type_is_refused(name):
    """Of everything that a family says about its objects: in data and in previous_data."""
    object_type = next((pair.object_type for pair in catalog() if schemas.of_type(resolved(pair.object_type)) == name))
    event = Maker(seed=4).event(object_type, "updated")
    tried = 0
    for member, schema in schemas.load(name)["$defs"]["object"]["properties"].items():
        types = schema.get("type", ["string", "null"])  # those by reference are dates
        for other in set(OF_TYPE) - set(types if isinstance(types, list) else [types]) - {"integer", "number"}:
            for side in ("data", "previous_data"):
                wrong = {**event, side: {**event[side], member: OF_TYPE[other]}}
                assert schemas.mistakes(name, wrong), f"{side}.{member}: {OF_TYPE[other]!r} passes"
                tried += 1
    assert tried > 0


@pytest.mark.parametrize("member, wrong", [
    ("id", ""), ("id", 7), ("object_type", "../x"), ("object_type", "a..b"), ("action", ""), ("date_updated", "yesterday"),
    ("date_created", 1756970837), ("changed_fields", "name"), ("changed_fields", [1]), ("meta", []), ("data", "x"),
    ("previous_data", []), ("organization_id", 7)])
def test_what_is_no_event_is_refused(member, wrong):
    assert schemas.mistakes("event", {**Maker(seed=5).event(), member: wrong})


def test_entries_of_the_event_log_are_valid():
    entry = json.loads((EVENT_LOG / "event-note.created.json").read_bytes())
    assert entry["object_type"] == "note"  # without activity.
    schemas.check("event", entry)
    schemas.check("events/activity.note", entry)


# ---- through the bridge ----

BODIES = {
    "real-lead.created-2025-09-04.wire.json": ("lead", "created"),
    "real-lead.created-2025-05-20.json": ("lead", "created"),
    "real-task.lead.created-apikey-2025-02-28.json": ("task.lead", "created"),
    "anon-lead.deleted-rudder-2024-06-14.json": ("lead", "deleted"),
    "doc-opportunity.updated.json": ("opportunity", "updated"),
    "legacy-lead.created.json": ("lead", "created"),
    "legacy-opportunity.status_change.json": ("activity.opportunity_status_change", "created"),
    "vector-A-thermondo.body.json": None,  # signed, but it has no action
}


def test_every_known_payload_is_published_as_its_schema_says(kafka, bridge, payload, topic):
    assert set(BODIES) == {path.name for path in PAYLOADS.iterdir()} - {"real-lead.created-2025-09-04.headers.json"}
    bridge.start(topic_map=[{"object_type": "*", "kafka": {"topic": f"{topic}.{form}", "key": "{object_type}.{action}",
                                                           "format": form}} for form in ("event", "raw", "cloudevents")])
    for name, pair in BODIES.items():
        status = bridge.post_signed(payload(name)).json["status"]
        assert status == ("accepted" if pair else "dead_lettered"), name
        assert bool(schemas.mistakes("body", json.loads(payload(name)))) == (pair is None), name
    count = len(BODIES) - 1
    events, bodies, structured = (kafka.read(f"{topic}.{form}", count=count) for form in ("event", "raw", "cloudevents"))
    assert sorted(record.key for record in events) == sorted(".".join(pair) for pair in BODIES.values() if pair)
    for record in events:
        object_type = record.key.rsplit(".", 1)[0]
        schemas.check(schemas.of_type(object_type), json.loads(record.value))
        schemas.check("kafka-headers", record.headers)
        assert record.headers["ce_type"] == "com.close." + record.key
    for record in bodies:
        schemas.check("body", json.loads(record.value))
    for record in structured:
        schemas.check("cloudevent", json.loads(record.value))
    assert {record.value for record in bodies} == {payload(name) for name, pair in BODIES.items() if pair}
