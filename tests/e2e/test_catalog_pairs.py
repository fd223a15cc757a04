"""One event of every pair of the catalog goes through to both brokers."""
import json

from tests.peers.close_simulator import catalog, resolved


def test_every_pair_reaches_both_brokers(kafka, mosquitto, make_bridge, topic):
    types = sorted({resolved(pair.object_type) for pair in catalog()})
    kafka.create_topics(*[f"{topic}.{name}" for name in types])
    places = {"kafka": {"topic": topic + ".{object_type}"},
              "mqtt": {"topic": topic + "/{object_type}/{action}", "qos": 1}}
    bridge = make_bridge(kafka, mosquitto.start()).start(topic_map=[{"object_type": "*", **places}] + [
        {"object_type": pair.object_type, "action": pair.action, **places}
        for pair in catalog() if pair.status != "documented"])  # a wildcard does not stand for these
    subscriber = mosquitto.subscribe(topic + "/#")
    events = list(bridge.close.events_of_all_pairs())
    assert len({(event["object_type"], event["action"]) for event in events}) == len(catalog()) > 150
    for event in events:
        answer = bridge.close.post(event)
        assert (answer.status, answer.json["status"]) == (200, "accepted"), (event["object_type"], event["action"])
    sent = {event["id"]: event for event in events}
    records = {record.event_id: record
               for record in kafka.read(*[f"{topic}.{name}" for name in types], count=len(sent), timeout=60)}
    messages = {message.event_id: message for message in subscriber.wait(len(sent))}
    assert set(records) == set(messages) == set(sent)
    for event_id, event in sent.items():
        kind = resolved(event["object_type"])
        assert records[event_id].topic == f"{topic}.{kind}"
        assert records[event_id].headers["ce_type"] == f"com.close.{kind}.{event['action']}"
        assert messages[event_id].topic == f"{topic}/{kind.replace('.', '/')}/{event['action']}"
        assert records[event_id].value == messages[event_id].payload == json.dumps(event).encode()


def test_a_wildcard_does_not_stand_for_disputed_and_discouraged_pairs(bridge, topic):
    bridge.start(topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    for pair in catalog():
        if pair.status in ("disputed", "discouraged"):
            assert bridge.post_signed(bridge.event(pair.object_type, pair.action)).json["status"] == "ignored", pair


def test_a_category_stands_for_its_pairs(kafka, bridge, topic):
    bridge.start(topic_map=[{"category": category, "kafka": {"topic": topic, "key": "{category}"}}
                            for category in sorted({pair.category for pair in catalog()})])
    pairs = [pair for pair in catalog() if pair.status == "documented"]
    wanted = {}
    for pair in pairs:
        event = bridge.event(pair.object_type, pair.action)
        assert bridge.close.post(event).json["status"] == "accepted", pair
        wanted[event["id"]] = pair.category
    records = kafka.read(topic, count=len(wanted), timeout=60)
    assert {record.event_id: record.key for record in records} == wanted
