"""Signed bodies that nobody would send in good faith: DESIGN section 5.

What is JSON passes byte for byte, what is not becomes a dead letter; nothing is misrouted and nothing stops.
"""
import json

import pytest

pytestmark = pytest.mark.row("F22")

GOOD = b'{"event":{"id":"%s","object_type":"lead","action":"created","lead_id":"lead_1","data":%s}}'

# Valid JSON that parsers get wrong: values of `data`.
VALUES = {
    "nested-900": b"[" * 900 + b"]" * 900,
    "nested-objects": b'{"a":' * 500 + b"1" + b"}" * 500,
    "integer-of-30-digits": b"123456789012345678901234567890",
    "1e400": b'{"n":1e400,"m":-1E+400,"o":1e-400}',
    "long-fraction": b"[0.1234567890123456789012345678901234567890,-0,-0.0e-0]",
    "many-digits": b"1" * 5000,
    "duplicate-keys": b'{"a":1,"a":2,"\\u0061":3}',
    "empty-key": b'{"":{"":""}}',
    "nul-in-data": b'{"name":"a\\u0000b","a\\u0000":1}',
    "escapes": b'"\\u00e4\\/\\"\\\\\\b\\f\\n\\r\\t\\uD83D\\uDE00"',
    "noncharacters": b'"\\uffff\xef\xbf\xbf\xf4\x8f\xbf\xbf\x7f"',
    "spaces": b' \t\r\n{ \t"a" :\r\n[ 1 , 2 ]\t} ',
    "looks-like-the-end": b'"}}]]{\\"event\\":{\\"id\\":\\"ev_x\\"}}"',
    "wide": b"[" + b"0," * 50000 + b"0]",
}

BODIES = {
    "lone-surrogate": GOOD % (b"ev_d", b'"\\ud800"'),
    "swapped-surrogates": GOOD % (b"ev_d", b'"\\udc00\\ud800"'),
    "not-utf8": GOOD % (b"ev_d", b'"\xff\xfe"'),
    "overlong-utf8": GOOD % (b"ev_d", b'"\xc0\xaf"'),
    "surrogate-in-utf8": GOOD % (b"ev_d", b'"\xed\xa0\x80"'),
    "control-character": GOOD % (b"ev_d", b'"a\nb"'),
    "tru": GOOD % (b"ev_d", b"tru"),
    "leading-zero": GOOD % (b"ev_d", b"01"),
    "bare-fraction": GOOD % (b"ev_d", b".5"),
    "nan": GOOD % (b"ev_d", b"NaN"),
    "single-quotes": GOOD % (b"ev_d", b"'a'"),
    "trailing-comma": GOOD % (b"ev_d", b"[1,]"),
    "comment": GOOD % (b"ev_d", b"1/**/"),
    "nested-100000": GOOD % (b"ev_d", b"[" * 100000 + b"]" * 100000),
    "unclosed": GOOD[:-2] % (b"ev_d", b"{"),
    "mixed-brackets": GOOD % (b"ev_d", b"[1}"),
    "trailing-bytes": GOOD % (b"ev_d", b"1") + b"x",
    "trailing-nul": GOOD % (b"ev_d", b"1") + b"\0",
    "two-documents": 2 * (GOOD % (b"ev_d", b"1")),
    "byte-order-mark": b"\xef\xbb\xbf" + GOOD % (b"ev_d", b"1"),
    "utf16": (GOOD % (b"ev_d", b"1")).decode().encode("utf-16"),
    "nothing": b"",
    "spaces": b"  ",
    "a-list": b"[" + GOOD % (b"ev_d", b"1") + b"]",
    "a-string": b'"event"',
    "null": b"null",
    "event-is-null": b'{"event":null}',
    "event-is-a-list": b'{"event":[]}',
    "no-id": b'{"event":{"object_type":"lead","action":"created"}}',
    "null-id": b'{"event":{"id":null,"object_type":"lead","action":"created"}}',
    "nul-in-id": b'{"event":{"id":"ev\\u0000","object_type":"lead","action":"created"}}',
    "nul-in-object-type": b'{"event":{"id":"ev_d","object_type":"lead\\u0000x","action":"created"}}',
    "nul-in-action": b'{"event":{"id":"ev_d","object_type":"lead","action":"created\\u0000"}}',
    "long-id": b'{"event":{"id":"' + b"e" * 257 + b'","object_type":"lead","action":"created"}}',
    "two-ids": b'{"event":{"id":"ev_d","object_type":"lead","action":"created","id":"ev_e"}}',
    "two-types": b'{"event":{"id":"ev_d","object_type":"lead","action":"created","object_typ\\u0065":"contact"}}',
    "two-events": GOOD[:-1] % (b"ev_d", b"1") + b"," + (GOOD % (b"ev_e", b"1"))[1:],
}

TYPES = ["../x", "..", ".", "", "a..b", ".a", "a.", "$SYS/x", "$SYS.x", "a+b", "+", "#", "a#", "a/b", "/", "a\\b", " lead",
         "lead ", "a b", "a\r\nb", "a\nb", "lead\u0000", "x" * 300, "x" * 129, "l\u00e9ad", "\u202elead", "{account}",
         "{object_type}", "%2e%2e", "*", "activity.*", "'", '"', "a;b", "a,b", "\u007f", "\uffff", "\U0001f600",
         None, True, 5, ["lead"], {"a": "lead"}]

# Fine on Kafka; on MQTT they would make levels and wildcards of their own.
LEADS = ["a/b", "+", "#", "$SYS", "a#b", "a\u0000b", "a\nb"]


def post_all(bridge, bodies, status):
    for name, body in bodies.items():
        answer = bridge.close.post_body(body)
        assert (answer.status, answer.json.get("status")) == (200, status), (name, answer.body)


def connects(mosquitto):
    return mosquitto.process.log().count("New client connected")


def disconnects(mosquitto):
    return mosquitto.process.log().count("disconnected")


def test_bodies(kafka, mosquitto, make_bridge, topic):
    names = {name: f"{topic}-{name}" for name in ("lead", "raw", "dead")}
    kafka.create_topics(*names.values())
    bridge = make_bridge(kafka, mosquitto.start()).start(
        dead_letters={"kafka": {"topic": names["dead"]}},
        topic_map=[{"object_type": "*", "kafka": {"topic": topic + "-{object_type}"},
                    "mqtt": {"topic": topic + "/{object_type}/{action}"}},
                   {"object_type": "*", "kafka": {"topic": names["raw"], "format": "raw"}}])
    subscriber = mosquitto.subscribe("#")
    good = {name: GOOD % (b"ev_" + name.encode(), value) for name, value in VALUES.items()}
    post_all(bridge, good, "accepted")
    post_all(bridge, BODIES, "dead_lettered")
    last = bridge.event("lead", "created")
    assert bridge.close.post(last).json["status"] == "accepted"
    good["last"] = bridge.body(last)

    start, end = b'{"event":', b"}"
    events = {"ev_" + name: body[len(start):-len(end)] for name, body in good.items() if name != "last"}
    events[last["id"]] = json.dumps(last).encode()
    assert {record.event_id: record.value for record in kafka.read(names["lead"], count=len(good))} == events
    assert {message.event_id: message.payload for message in subscriber.wait(len(good))} == events
    assert sorted(record.value for record in kafka.read(names["raw"], count=len(good))) == sorted(good.values())
    dead = kafka.read(names["dead"], count=len(BODIES))
    assert sorted(record.value for record in dead) == sorted(BODIES.values())
    assert {record.headers["closebridge_reason"] for record in dead} == {"not_an_event"}
    assert {record.key for record in dead} == {None}
    assert {name for name in kafka.topics() if name.startswith(topic)} == set(names.values())
    assert bridge.metrics().value("webhooks_total", result="dead_lettered") == len(BODIES)
    assert bridge.readyz().json["journal"]["dead_letters"] == len(BODIES)


def test_object_types(kafka, mosquitto, make_bridge, topic):
    dead = topic + "-dead"
    bridge = make_bridge(kafka, mosquitto.start())
    bridge.start(dead_letters={"kafka": {"topic": dead}},
                 topic_map=[{"object_type": "*", "kafka": {"topic": topic + "-{object_type}"},
                             "mqtt": {"topic": topic + "/{object_type}/{action}/{lead_id}"}}])
    subscriber = mosquitto.subscribe("#", "$SYS/x/#")
    bridge.wait_up("mqtt")
    before = connects(mosquitto), disconnects(mosquitto)
    sent = [dict(bridge.event(), object_type=name) for name in TYPES]
    sent += [dict(bridge.event(), action=name) for name in TYPES]
    for event in sent:
        assert bridge.close.post(event).json["status"] == "dead_lettered", event
    leads = [bridge.event("lead", "updated", lead_id=lead) for lead in LEADS]
    last = bridge.event("lead", "created")
    for event in [*leads, last]:
        assert bridge.close.post(event).json["status"] == "accepted", event

    assert [message.event_id for message in subscriber.until(lambda all_: all_ and all_[-1].event_id == last["id"])] == [
        last["id"]]
    records = kafka.read(topic + "-lead", count=len(leads) + 1)
    assert sorted(record.event_id for record in records) == sorted(event["id"] for event in [*leads, last])
    copies = kafka.read(dead, count=len(sent) + len(leads))
    reasons = [record.headers["closebridge_reason"] for record in copies]
    assert (reasons.count("not_an_event"), reasons.count("bad_topic")) == (len(sent), len(leads))
    assert sorted(record.value for record in copies if record.event_id is None) == sorted(map(bridge.body, sent))
    assert {name for name in kafka.topics() if name.startswith(topic)} == {topic + "-lead", dead}
    assert (connects(mosquitto), disconnects(mosquitto)) == before, mosquitto.process.log()
