"""The AsyncAPI document says where everything goes. test_formats.py holds real records of every pair against it."""
import json

import pytest

from tests.e2e.bridge import KEY, ROOT
from tests.peers import schemas
from tests.peers.asyncapi import Document
from tests.peers.close_simulator import catalog

SECRETS = {"CLOSE_BRIDGE_TOKEN": "token-that-nobody-sees", "CLOSE_API_KEY": "api-key-that-nobody-sees", "CLOSE_SIGNATURE_KEY": KEY}
BROKERS = {"KAFKA_BOOTSTRAP_SERVERS": "localhost:9092", "MQTT_URL": "mqtt://localhost"}
EVERYWHERE = {"kafka": {"topic": "close.{object_type}"}, "mqtt": {"topic": "close/{object_type}/{action}"}}


@pytest.fixture
def describe(make_bridge):
    """describe(sections...): the document of a configuration, checked."""
    def make(**sections):
        bridge = make_bridge()
        bridge.configure(publishers={"kafka": {"bootstrap.servers": "localhost:9092"}, "mqtt": {"url": "mqtt://localhost:1883"}})
        bridge.configure(**sections)
        done = bridge.run("asyncapi", "-c", bridge.config_path)
        assert done.returncode == 0, done.stderr
        document = Document(done.stdout)
        document.check()
        return document
    return make


@pytest.mark.parametrize("path", ["packaging/close-bridge.yaml", "tests/data/config/everything.yaml"])
def test_files_of_the_repository_make_valid_documents(make_bridge, tmp_path, path):
    out = tmp_path / "asyncapi.json"
    done = make_bridge().run("asyncapi", "-c", ROOT / path, "-o", out, env={**SECRETS, **BROKERS})
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    document = Document(out.read_text())
    document.check()
    assert not any(secret in out.read_text() for secret in SECRETS.values())


def test_it_has_every_destination_that_topics_shows(describe, make_bridge):
    topic_map = [
        {"object_type": "*", "kafka": {"topic": "close.{category}", "key": "{object_type}", "format": "msgpack"},
         "mqtt": {"topic": "close/{lead_id}/{object_type}/{object_id}", "qos": 2, "retain": True}},
        {"category": "lead", "kafka": {"topic": "close.lead", "format": "cloudevents", "key": "object_id", "tombstone": True}},
        {"object_type": "of.tomorrow", "action": "made", "account": "main", "mqtt": {"topic": "close/tomorrow", "qos": 1}},
        {"object_type": "contact", "kafka": {"topic": "close.contacts"}, "fields": {"drop": ["data.emails"]}},
        {"object_type": "activity.note", "kafka": {"topic": "close.notes", "format": "raw", "key": "none"},
         "extra_filter": {"type": "field_accessor", "field": "user_id", "filter": {"type": "equals", "value": "user_1"}}},
        {"object_type": "*", "fallback": True, "kafka": {"topic": "close.other"}}]
    document = describe(topic_map=topic_map)
    bridge = make_bridge()
    bridge.configure(topic_map=topic_map, publishers={"kafka": {"bootstrap.servers": "localhost:9092"},
                                                      "mqtt": {"url": "mqtt://localhost:1883"}})
    pairs = json.loads(bridge.run("topics", "-c", bridge.config_path, "--json").stdout)["pairs"]
    expected = {(place["publisher"], place["topic"], f"com.close.{pair['object_type']}.{pair['action']}")
                for pair in pairs for place in pair["destinations"]}
    found = {(publisher, address, message["name"]) for (publisher, address), channel in document.channels.items()
             for message in channel["messages"].values()}
    assert found == expected and len(found) > len(catalog())
    [by_lead] = [channel for (_, address), channel in document.channels.items() if address == "close/{lead_id}/lead/{object_id}"]
    assert set(by_lead["parameters"]) == {"lead_id", "object_id"}
    [operation] = document.operations(by_lead)
    assert operation["bindings"]["mqtt"] == {"qos": 2, "retain": True, "bindingVersion": "0.2.0"}
    leads = document.channels["kafka", "close.lead"]["messages"]
    assert leads["lead.deleted-2"]["payload"]["type"] == "null" and leads["lead.deleted-2"]["contentType"] == "application/json"
    assert leads["lead.created"]["contentType"] == "application/vnd.msgpack"
    assert leads["lead.created-2"]["contentType"] == "application/cloudevents+json; charset=UTF-8"
    assert leads["lead.created"]["bindings"]["kafka"]["key"] == {"type": "string",
                                                                 "description": "Made of the template {object_type}"}
    assert document.channels["kafka", "close.contacts"]["messages"]["contact.created"]["x-fields"] == {"drop": ["data.emails"]}
    [note] = [m for name, m in document.channels["kafka", "close.notes"]["messages"].items() if name == "activity.note.created"]
    assert note["bindings"]["kafka"]["key"]["type"] == "null" and note["x-extra-filter"]["field"] == "user_id"


def test_brokers_are_servers_without_their_credentials(describe):
    document = describe(
        topic_map=[{"object_type": "lead", **EVERYWHERE}],
        publishers={"kafka": {"bootstrap.servers": "SASL_SSL://one:9093, two:9092,three", "security.protocol": "sasl_plaintext",
                              "sasl.mechanism": "PLAIN", "sasl.username": "user-of-kafka", "sasl.password": "hidden"},
                    "mqtt": {"url": "mqtts://[::1]:8884", "version": "3.1.1", "username": "user-of-mqtt", "password": "hidden",
                             "status_topic": "close-bridge/status", "message_expiry": 0}},
        dead_letters={"kafka": {"topic": "close.dead"}})
    assert document.root["servers"] == {
        "kafka": {"host": "one:9093", "protocol": "kafka-secure"}, "kafka-2": {"host": "two:9092", "protocol": "kafka"},
        "kafka-3": {"host": "three", "protocol": "kafka"},
        "mqtt": {"host": "[::1]:8884", "protocol": "secure-mqtt", "protocolVersion": "3.1.1"}}
    assert not any(word in json.dumps(document.root) for word in ("hidden", "user-of-"))
    channels = document.channels
    assert len(channels["kafka", "close.lead"]["servers"]) == 3
    assert set(channels["kafka", "close.dead"]["messages"]) == {"dead-letter"}
    [operation] = document.operations(channels["mqtt", "close-bridge/status"])
    assert operation["bindings"]["mqtt"]["retain"] is True
    message = channels["mqtt", "close/lead/created"]["messages"]["lead.created"]
    assert "headers" not in message and "bindings" not in message  # MQTT 3.1.1 has neither


def test_it_brings_the_schemas_that_it_needs_and_no_others(describe):
    few = describe(topic_map=[{"object_type": "task.lead", "kafka": {"topic": "tasks"}}]).root["components"]["schemas"]
    assert set(few) == {"event", "task", "kafka-headers"}
    assert few["task"]["properties"]["data"] == {"$ref": "#/components/schemas/task/$defs/object"}
    all_of_them = describe(topic_map=[
        {"object_type": "*", **EVERYWHERE}, {"object_type": "*", "kafka": {"topic": "raw", "format": "raw"}},
        {"object_type": "*", "kafka": {"topic": "cloudevents", "format": "cloudevents"}},
        {"object_type": "activity.lead_merge", "action": "created", "kafka": {"topic": "all"}}]).root["components"]["schemas"]
    assert set(all_of_them) == {name.removeprefix("events/") for name in schemas.names()}


def test_entries_that_differ_by_qos_have_operations_of_their_own(describe):
    document = describe(topic_map=[{"object_type": "lead", "mqtt": {"topic": "a/b", "qos": 1}},
                                   {"object_type": "contact", "mqtt": {"topic": "a/b", "qos": 0}},
                                   {"object_type": "group", "mqtt": {"topic": "a.b", "qos": 0}}])
    operations = document.operations(document.channels["mqtt", "a/b"])
    assert {operation["bindings"]["mqtt"]["qos"]: len(operation["messages"]) for operation in operations} == {1: 4, 0: 3}
    assert set(document.root["channels"]) == {"mqtt.a.b", "mqtt.a.b-2"}


def test_a_file_that_cannot_be_written_is_said(make_bridge):
    bridge = make_bridge()
    bridge.configure(publishers={"kafka": {"bootstrap.servers": "localhost:9092"}},
                     topic_map=[{"object_type": "lead", "kafka": {"topic": "a"}}])
    done = bridge.run("asyncapi", "-c", bridge.config_path, "-o", "no/such/folder")
    assert (done.returncode, done.stderr) == \
        (73, "close-bridge asyncapi: cannot create no/such/folder: No such file or directory\n")
    done = bridge.run("asyncapi", "-c", bridge.config_path, "-o", "/dev/full")
    assert done.returncode == 74 and "cannot write /dev/full: No space left on device" in done.stderr


def test_keys_are_described_as_records_have_them(describe):
    keys = {"lead_id": ("string", "lead_id; without one object_id, without that the event's id."),
            "object_id": (["string", "null"], "object_id"), "event_id": ("string", "The event's id."),
            "organization_id": (["string", "null"], "organization_id"), "none": ("null", "There is no key."),
            "{action}-{lead_id}": ("string", "Made of the template {action}-{lead_id}")}
    document = describe(topic_map=[{"object_type": "lead", "action": "created", "kafka": {"topic": f"t{number}", "key": key}}
                                   for number, key in enumerate(keys)])
    found = [document.channels["kafka", f"t{number}"]["messages"]["lead.created"]["bindings"]["kafka"]["key"]
             for number in range(len(keys))]
    assert [(key["type"], key["description"]) for key in found] == list(keys.values())


def test_entries_with_filters_of_their_own_are_messages_of_their_own(describe):
    def entry(user):
        return {"object_type": "lead", "action": "created", "kafka": {"topic": "leads"},
                "extra_filter": {"type": "field_accessor", "field": "user_id", "filter": {"type": "equals", "value": user}}}
    messages = describe(topic_map=[entry("user_1"), entry("user_2")]).channels["kafka", "leads"]["messages"]
    assert {name: message["x-extra-filter"]["filter"]["value"] for name, message in messages.items()} == \
        {"lead.created": "user_1", "lead.created-2": "user_2"}
