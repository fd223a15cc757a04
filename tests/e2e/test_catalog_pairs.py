"""What wildcards and categories stand for. test_formats.py sends one event of every pair through to both brokers."""
from tests.peers.close_simulator import catalog


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
