"""What consumers get: DESIGN section 6."""
import datetime
import json
import threading

import msgpack
import pytest

REAL = "real-lead.created-2025-09-04.wire.json"


def routes(topic, **lead):
    return [{"object_type": "*",
             "kafka": {"topic": topic, **lead},
             "mqtt": {"topic": topic + "/{object_type}/{action}", "qos": 1, **lead}}]


def event_bytes(wire):
    """The bytes of the event object inside a real body, found without parsing it: it is the last member."""
    start = wire.index(b'"event": ') + len(b'"event": ')
    assert wire.endswith(b"}}") and json.loads(wire[start:-1])["id"].startswith("ev_")
    return wire[start:-1]


def attributes_of(event, subscription, account="main"):
    return {
        "specversion": "1.0",
        "id": event["id"],
        "source": "/close/" + event["organization_id"],
        "type": f"com.close.{event['object_type']}.{event['action']}",
        "subject": event["object_id"],
        "time": event["date_updated"] + "Z",
        "closeeventid": event["id"],
        "closeaccount": account,
        "closesubscription": subscription,
        "closedateupdated": event["date_updated"],
        "closeorigin": "webhook",
    }


def test_a_real_delivery_reaches_both_brokers_byte_for_byte(kafka, mosquitto, make_bridge, payload, topic):
    bridge = make_bridge(kafka, mosquitto.start()).start(topic_map=routes(topic))
    subscriber = mosquitto.subscribe(topic + "/#")
    wire = payload(REAL)
    body = json.loads(wire)
    event = body["event"]
    answer = bridge.post_signed(wire)
    assert (answer.status, answer.json) == (200, {"status": "accepted"})
    [record] = kafka.read(topic, count=1)
    [message] = subscriber.wait(1)
    attributes = attributes_of(event, body["subscription_id"])

    assert record.value == event_bytes(wire)
    assert record.key == event["lead_id"]
    assert dict(record.header_list) == {"content-type": "application/json",
                                        **{"ce_" + name: value for name, value in attributes.items()}}
    assert len(record.header_list) == len(record.headers), "a header came twice"

    assert message.payload == event_bytes(wire)
    assert message.topic == topic + "/lead/created"
    assert message.attributes == attributes
    assert len(message.attribute_list) == len(message.attributes), "a property came twice"
    assert (message.content_type, message.format_indicator) == ("application/json", 1)
    assert (message.qos, message.retain) == (1, False)


def test_raw_is_the_whole_body(kafka, mosquitto, make_bridge, payload, topic):
    bridge = make_bridge(kafka, mosquitto.start()).start(topic_map=routes(topic, format="raw"))
    subscriber = mosquitto.subscribe(topic + "/#")
    wire = payload(REAL)
    # Bytes that a parser would write differently: spaces, escapes, a number of many digits.
    odd = wire.replace(b'"previous_data": {}', rb'"previous_data" :{ "n": 1.10e+2, "big": 12345678901234567890123, "\u0061": "\/"}  ')
    odd = odd.replace(b"ev_70750rgrOVLfmED9y7ExRy", b"ev_00000rgrOVLfmED9y7ExRy")
    for body in (wire, odd):
        assert bridge.post_signed(body).status == 200
    assert [record.value for record in kafka.read(topic, count=2)] == [wire, odd]
    assert [message.payload for message in subscriber.wait(2)] == [wire, odd]


def test_qos_and_retain_are_what_the_map_says(kafka, mosquitto, make_bridge, topic):
    bridge = make_bridge(None, mosquitto.start())
    bridge.start(topic_map=[{"object_type": "lead", "mqtt": {"topic": topic, "qos": 2, "retain": True}}])
    assert bridge.post_signed(bridge.event()).status == 200
    bridge.wait_published("mqtt", 1)
    [message] = mosquitto.subscribe(topic).wait(1)  # retained: it comes although it was published before
    assert (message.qos, message.retain) == (2, True)


def test_the_older_shape_becomes_an_event(kafka, bridge, topic):
    bridge.start(topic_map=[{"object_type": "*", "kafka": {"topic": topic + ".{object_type}"}}])
    body = json.dumps({"event": "opportunity.status_change", "subscription_id": "whsub_1", "id": "ev_old",
                       "timestamp": "2025-01-15T11:00:00.000Z", "data": {"id": "oppo_1", "lead_id": "lead_1"}})
    assert bridge.post_signed(body.encode()).json["status"] == "accepted"
    [record] = kafka.read(topic + ".activity.opportunity_status_change", count=1)
    event = json.loads(record.value)
    assert (event["id"], event["action"], event["object_id"], event["lead_id"]) == ("ev_old", "created", "oppo_1", "lead_1")
    assert (record.key, record.headers["ce_id"]) == ("lead_1", "ev_old")


def test_what_no_entry_matches_is_ignored_and_leaves_no_mark(kafka, bridge, topic):
    bridge.start(topic_map=[{"object_type": "lead", "kafka": {"topic": topic}}])
    event = bridge.event("contact", "created")
    assert [bridge.post_signed(event).json["status"] for _ in range(2)] == ["ignored", "ignored"]
    assert bridge.metrics().value("webhooks_total", result="ignored") == 2
    bridge.terminate()
    bridge.start(topic_map=[{"object_type": "contact", "kafka": {"topic": topic}}])
    assert bridge.post_signed(event).json["status"] == "accepted"
    assert [record.event_id for record in kafka.read(topic, count=1)] == [event["id"]]


def test_an_authentic_body_that_is_no_event_is_kept_and_copied(kafka, bridge, topic):
    bridge.start(dead_letters={"kafka": {"topic": topic + "-dead"}}, topic_map=routes_kafka(topic))
    bodies = [b"tru", b'{"event": {"id": "ev_1", "object_type": "../x", "action": "created"}}', b"", b"[1,2}"]
    for body in bodies:
        assert bridge.post_signed(body).json["status"] == "dead_lettered", body
    records = kafka.read(topic + "-dead", count=len(bodies))
    assert sorted(record.value for record in records) == sorted(bodies)
    assert {record.headers["content-type"] for record in records} == {"application/octet-stream"}
    assert bridge.readyz().json["journal"]["dead_letters"] == len(bodies)
    bridge.restart()
    assert bridge.readyz().json["journal"]["dead_letters"] == len(bodies)


def test_a_structured_cloudevent_is_complete(kafka, bridge, payload, topic):
    bridge.start(topic_map=[{"object_type": "lead", "kafka": {"topic": topic, "format": "cloudevents"}}])
    body = json.loads(payload(REAL))
    assert bridge.post_signed(payload(REAL)).status == 200
    [record] = kafka.read(topic, count=1)
    cloudevent = json.loads(record.value)
    assert record.headers["content-type"].split(";")[0] == "application/cloudevents+json"
    assert cloudevent.pop("data") == body["event"]
    assert cloudevent.pop("datacontenttype", "application/json") == "application/json"
    assert cloudevent == attributes_of(body["event"], body["subscription_id"])


def test_msgpack_holds_the_same_event(kafka, bridge, payload, topic):
    bridge.start(topic_map=[{"object_type": "lead", "kafka": {"topic": topic, "format": "msgpack"}}])
    assert bridge.post_signed(payload(REAL)).status == 200
    [record] = kafka.read(topic, count=1)
    assert record.headers["content-type"] == "application/vnd.msgpack"
    assert msgpack.unpackb(record.value) == json.loads(payload(REAL))["event"]


@pytest.mark.parametrize("key, expected", [
    ("lead_id", "lead"), ("object_id", "object"), ("event_id", "event"), ("organization_id", "organization"),
    ("none", None), ("{object_type}.{action}", "template"),
])
def test_the_key_is_what_the_map_says(kafka, bridge, topic, key, expected):
    bridge.start(topic_map=[{"object_type": "contact", "kafka": {"topic": topic, "key": key}}])
    event = bridge.event("contact", "updated")
    assert bridge.post_signed(event).status == 200
    [record] = kafka.read(topic, count=1)
    assert record.key == {"lead": event["lead_id"], "object": event["object_id"], "event": event["id"],
                          "organization": event["organization_id"], None: None,
                          "template": "contact.updated"}[expected]


def test_without_a_lead_the_key_is_the_object_then_the_event(kafka, bridge, topic):
    bridge.start(topic_map=routes_kafka(topic))
    group = bridge.event("group", "created")
    nothing = bridge.event("group", "created", object_id=None)
    for event in (group, nothing):
        assert event["lead_id"] is None
        assert bridge.post_signed(event).status == 200
    keys = {record.event_id: record.key for record in kafka.read(topic, count=2)}
    assert keys == {group["id"]: group["object_id"], nothing["id"]: nothing["id"]}


def routes_kafka(topic, **more):
    return [{"object_type": "*", "kafka": {"topic": topic, **more}}]


def test_a_later_version_of_an_event_has_an_id_of_its_own(kafka, bridge, topic):
    bridge.start(topic_map=routes_kafka(topic))
    first = bridge.event("lead", "updated")
    later = dict(first, date_updated="2036-01-01T00:00:00.000000")
    for event in (first, later):
        assert bridge.post_signed(event).json["status"] == "accepted"
    assert [record.headers["ce_id"] for record in kafka.read(topic, count=2)] == [
        first["id"], f"{first['id']}/{later['date_updated']}"]


def test_attributes_without_a_value_or_with_a_control_character_are_left_out(kafka, mosquitto, make_bridge, topic):
    bridge = make_bridge(kafka, mosquitto.start()).start(topic_map=routes(topic))
    subscriber = mosquitto.subscribe(topic + "/#")
    event = bridge.event("lead", "created", object_id="a\nb", organization_id=None, date_updated=None)
    assert bridge.post_signed(event).status == 200
    [record] = kafka.read(topic, count=1)
    [message] = subscriber.wait(1)
    assert record.headers["ce_source"] == "/close/unknown"
    assert not {"ce_subject", "ce_closedateupdated"} & set(record.headers)
    assert {name[3:]: value for name, value in record.header_list if name.startswith("ce_")} == message.attributes


def test_traceparent_is_passed_through(kafka, bridge, topic):
    bridge.start(topic_map=routes_kafka(topic))
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert bridge.post_signed(bridge.event(), headers={"traceparent": trace}).status == 200
    assert kafka.read(topic, count=1)[0].headers["traceparent"] == trace


def test_the_record_has_the_time_that_the_map_says(kafka, bridge, payload, topic):
    before = datetime.datetime.now().timestamp() * 1000
    bridge.start(topic_map=[{"object_type": "*", "kafka": {"topic": topic + "-received"}},
                            {"object_type": "*", "kafka": {"topic": topic + "-event", "timestamp": "event"}}])
    assert bridge.post_signed(payload(REAL)).status == 200
    [received] = kafka.read(topic + "-received", count=1)
    [event] = kafka.read(topic + "-event", count=1)
    moment = datetime.datetime(2025, 9, 4, 7, 27, 17, 674000, datetime.timezone.utc)
    assert event.timestamp == round(moment.timestamp() * 1000)
    assert before - 1000 <= received.timestamp <= datetime.datetime.now().timestamp() * 1000 + 1000


def test_deletions_become_tombstones_when_the_map_wants_them(kafka, bridge, topic):
    bridge.start(topic_map=routes_kafka(topic, key="object_id", tombstone=True))
    event = bridge.event("lead", "deleted")
    assert bridge.post_signed(event).status == 200
    [record] = kafka.read(topic, count=1)
    assert (record.value, record.key) == (None, event["object_id"])


def test_every_entry_that_matches_publishes_and_the_fallback_only_the_rest(kafka, bridge, topic):
    names = [f"{topic}-{name}" for name in ("types", "prefix", "category", "filtered", "rest")]
    bridge.start(topic_map=[
        {"object_type": "lead", "action": ["created", "updated"], "kafka": {"topic": names[0]}},
        {"object_type": "activity.*", "kafka": {"topic": names[1]}},
        {"category": "lead", "kafka": {"topic": names[2]}},
        {"object_type": "lead", "kafka": {"topic": names[3]},
         "extra_filter": {"type": "field_accessor", "field": "data", "filter": {
             "type": "field_accessor", "field": "name", "filter": {"type": "equals", "value": "wanted"}}}},
        {"object_type": "*", "fallback": True, "kafka": {"topic": names[4]}},
    ])
    wanted = bridge.event("lead", "created")
    wanted["data"]["name"] = "wanted"
    events = {"wanted": wanted, "deleted": bridge.event("lead", "deleted"), "call": bridge.event("activity.call", "created"),
              "status": bridge.event("activity.lead_status_change", "created"), "group": bridge.event("group", "created")}
    for event in events.values():
        assert bridge.post_signed(event).json["status"] == "accepted"
    expected = {names[0]: ["wanted"], names[1]: ["call", "status"], names[2]: ["wanted", "deleted", "status"],
                names[3]: ["wanted"], names[4]: ["group"]}
    called = {event["id"]: name for name, event in events.items()}
    bridge.wait_published("kafka", sum(len(wants) for wants in expected.values()))
    came = {name: sorted(called[record.event_id] for record in kafka.read_all(name)) for name in names}
    assert came == {name: sorted(wants) for name, wants in expected.items()}


def test_the_order_of_a_lead_is_kept(kafka, mosquitto, make_bridge, topic):
    bridge = make_bridge(kafka, mosquitto.start()).start(topic_map=routes(topic))
    subscriber = mosquitto.subscribe(topic + "/#")
    sent = {bridge.maker.id("lead", 43): [] for _ in range(8)}

    def send(lead):
        for _ in range(100):
            event = bridge.event("lead", "updated", lead_id=lead)
            assert bridge.close.post(event).status == 200
            sent[lead].append(event["id"])

    threads = [threading.Thread(target=send, args=(lead,)) for lead in sent]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = {lead: [] for lead in sent}
    for record in kafka.read(topic, count=800):
        records[record.key].append(record.event_id)
    assert records == sent
    messages = {lead: [] for lead in sent}
    for message in subscriber.wait(800):
        messages[json.loads(message.payload)["lead_id"]].append(message.event_id)
    assert messages == sent
