"""The main job: a signed webhook becomes a Kafka record and an MQTT message."""
import json
import threading

from tests.peers.close_simulator import catalog


def event_bytes(body):
    """The bytes of the event object inside a body."""
    start = body.index(b'"event": ') + len(b'"event": ')
    return body[start:-1]


def test_a_real_payload_arrives_byte_for_byte_with_its_attributes(kafka, mosquitto, make_bridge, real_payload):
    bridge = make_bridge(kafka, mosquitto)
    messages = mosquitto.subscribe("#")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    bridge.start()
    answer = bridge.post_signed(real_payload, traceparent=trace)
    assert (answer.status, answer.json) == (200, {"status": "accepted"})

    event = json.loads(real_payload)["event"]
    attributes = {
        "specversion": "1.0",
        "id": event["id"],
        "source": "/close/" + event["organization_id"],
        "type": "com.close.lead.created",
        "subject": event["object_id"],
        "time": "2025-09-04T07:27:17.674000Z",
        "closeeventid": event["id"],
        "closeaccount": "main",
        "closesubscription": json.loads(real_payload)["subscription_id"],
        "closedateupdated": event["date_updated"],
        "closeorigin": "webhook",
    }
    record, = kafka.read(bridge.topic("close.lead"), 1)
    assert record.value == event_bytes(real_payload)
    assert record.key == event["lead_id"]
    assert record.headers == {"content-type": "application/json", "traceparent": trace,
                              **{"ce_" + name: value for name, value in attributes.items()}}
    message, = messages.wait(1)
    assert message.topic == bridge.topic("close/lead/created")
    assert message.payload == event_bytes(real_payload)
    assert message.attributes == {**attributes, "traceparent": trace}
    assert (message.content_type, message.format_indicator, message.retain) == ("application/json", 1, False)


def test_format_raw_is_the_body_byte_for_byte(kafka, mosquitto, make_bridge, real_payload):
    bridge = make_bridge(kafka, mosquitto)
    messages = mosquitto.subscribe("#")
    bridge.start(topic_map=[{"object_type": "lead",
                             "kafka": {"topic": bridge.topic("raw"), "format": "raw"},
                             "mqtt": {"topic": "raw", "format": "raw", "qos": 2, "retain": True}}])
    assert bridge.post_signed(real_payload).status == 200
    assert kafka.read(bridge.topic("raw"), 1)[0].value == real_payload
    message, = messages.wait(1)
    assert (message.payload, message.qos, message.retain) == (real_payload, 2, True)


def test_a_consolidated_update_has_an_id_of_its_own(kafka, make_bridge):
    bridge = make_bridge(kafka).start()
    event = bridge.close.maker.event("lead", "updated", date_created="2026-01-01T00:00:00.000000",
                                     date_updated="2026-01-01T00:00:09.000000")
    assert bridge.post(event).json["status"] == "accepted"
    later = {**event, "date_updated": "2026-01-01T00:00:19.000000"}
    assert bridge.post(later).json["status"] == "accepted"
    records = kafka.read(bridge.topic("close.lead"), 2)
    assert [r.headers["ce_id"] for r in records] == [f"{event['id']}/2026-01-01T00:00:09.000000",
                                                     f"{event['id']}/2026-01-01T00:00:19.000000"]
    assert {r.headers["ce_closeeventid"] for r in records} == {event["id"]}


def test_the_older_payload_shape_becomes_an_event(kafka, make_bridge):
    bridge = make_bridge(kafka).start()
    body = json.dumps({"event": "opportunity.status_change", "subscription_id": "whsub_1", "id": "ev_old",
                       "timestamp": "2025-01-15T11:00:00.000Z", "data": {"id": "oppo_1", "lead_id": "lead_1"}}).encode()
    assert bridge.post_signed(body).json["status"] == "accepted"
    record, = kafka.read(bridge.topic("close.activity.opportunity_status_change"), 1)
    event = json.loads(record.value)
    assert (event["id"], event["action"], event["object_id"], event["lead_id"]) == ("ev_old", "created", "oppo_1", "lead_1")
    assert (record.key, record.headers["ce_time"]) == ("lead_1", "2025-01-15T11:00:00.000Z")


def test_every_matching_entry_publishes_and_fallback_gets_the_rest(kafka, make_bridge):
    bridge = make_bridge(kafka)
    topics = {name: bridge.topic(name) for name in ("exact", "prefix", "rest")}
    bridge.start(topic_map=[
        {"object_type": "activity.note", "action": "created", "kafka": {"topic": topics["exact"], "key": "event_id"}},
        {"object_type": "activity.*", "kafka": {"topic": topics["prefix"], "key": "{object_type}.{action}"}},
        {"object_type": "*", "fallback": True, "kafka": {"topic": topics["rest"], "key": "none"}},
    ])
    note, call, lead = (bridge.close.maker.event(*pair) for pair in
                        (("activity.note", "created"), ("activity.call", "created"), ("lead", "created")))
    for event in (note, call, lead):
        assert bridge.post(event).json["status"] == "accepted"
    records = kafka.read(topics.values(), 4)
    assert sorted((r.topic, r.headers["ce_id"], r.key) for r in records) == sorted([
        (topics["exact"], note["id"], note["id"]),
        (topics["prefix"], note["id"], "activity.note.created"),
        (topics["prefix"], call["id"], "activity.call.created"),
        (topics["rest"], lead["id"], None),
    ])


def test_what_no_entry_matches_is_ignored(kafka, make_bridge):
    bridge = make_bridge(kafka)
    bridge.start(topic_map=[{"object_type": "lead", "kafka": {"topic": bridge.topic("leads")}}])
    event = bridge.close.maker.event("contact", "created")
    for _ in range(2):
        assert bridge.post(event).json["status"] == "ignored"
    assert bridge.metric("webhooks_total", result="ignored") == 2


def test_one_event_of_every_pair_reaches_both_brokers(kafka, mosquitto, make_bridge):
    bridge = make_bridge(kafka, mosquitto)
    messages = mosquitto.subscribe("#")
    named = [{"object_type": t, "action": a, "kafka": {"topic": bridge.topic("close.all")},
              "mqtt": {"topic": "close/{object_type}/{action}", "qos": 1}} for t, a, *_ in catalog()]
    bridge.start(topic_map=named)
    sent = {}
    for event in bridge.close.events_of_all_pairs():
        assert bridge.post(event).json["status"] == "accepted"
        sent[event["id"]] = event
    records = kafka.read(bridge.topic("close.all"), len(sent))
    assert {r.headers["ce_id"]: json.loads(r.value) for r in records} == sent
    assert {m.attributes["id"]: json.loads(m.payload) for m in messages.wait(len(sent))} == sent
    assert {m.topic for m in messages.messages} == {f"close/{e['object_type'].replace('.', '/')}/{e['action']}"
                                                   for e in sent.values()}


def test_the_events_of_a_lead_keep_their_order(kafka, mosquitto, make_bridge):
    bridge = make_bridge(kafka, mosquitto)
    messages = mosquitto.subscribe("#")
    bridge.start()
    sent = {}

    def send(lead):
        for _ in range(100):
            event = bridge.close.maker.event("lead", "updated", lead_id=lead)
            assert bridge.post(event).status == 200
            sent.setdefault(lead, []).append(event["id"])

    threads = [threading.Thread(target=send, args=(f"lead_{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    got = {}
    for record in kafka.read(bridge.topic("close.lead"), 800, extra=0.5):
        got.setdefault(record.key, []).append(record.headers["ce_id"])
    assert got == sent
    got = {}
    for message in messages.wait(800):
        got.setdefault(json.loads(message.payload)["lead_id"], []).append(message.attributes["id"])
    assert got == sent


def test_an_authentic_body_that_is_no_event_is_kept_and_copied_to_the_dead_letter_topic(kafka, make_bridge):
    bridge = make_bridge(kafka)
    topic = bridge.topic("dead")
    bridge.start(dead_letters={"kafka": {"topic": topic}})
    bodies = [b"tru", b'{"event": {"id": "ev_1", "object_type": "../x", "action": "created"}}', b"", b"[1,2}"]
    for body in bodies:
        assert bridge.post_signed(body).json["status"] == "dead_lettered"
    records = kafka.read(topic, len(bodies))
    assert sorted(r.value for r in records) == sorted(bodies)
    assert {r.headers["closebridge_reason"] for r in records} == {"not_an_event"}
    assert bridge.ready()[1]["journal"]["dead_letters"] == len(bodies)
    bridge.restart()
    assert len(kafka.read(topic, len(bodies), extra=2)) == len(bodies)
