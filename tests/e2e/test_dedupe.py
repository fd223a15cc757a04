"""What Close delivers twice is published once: DESIGN section 5."""
import concurrent.futures
import json

import pytest

pytestmark = pytest.mark.row("F21")


@pytest.fixture
def running(bridge, topic):
    return bridge.start(topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])


def post(bridge, event):
    answer = bridge.post_signed(event)
    assert answer.status == 200, answer
    return answer.json["status"]


def published(bridge, kafka, topic, count):
    """All ids in the topic, after `count` were published by this process and one more came through behind them."""
    last = bridge.event("group")
    assert post(bridge, last) == "accepted"
    with kafka.reader(topic) as reader:
        reader.until(lambda records: last["id"] in {record.event_id for record in records}
                     and len(records) > count, 30)
        return sorted(record.headers["ce_id"] for record in reader.records if record.event_id != last["id"])


def test_a_redelivery_is_a_duplicate_also_after_a_restart(running, kafka, topic):
    event = running.event()
    assert post(running, event) == "accepted"
    assert post(running, event) == "duplicate"
    running.restart()
    assert post(running, event) == "duplicate"
    running.kill()
    running.start()
    assert post(running, event) == "duplicate"
    assert published(running, kafka, topic, 1) == [event["id"]]


def test_a_redelivery_before_the_broker_has_it_is_a_duplicate(make_bridge, own_kafka, topic):
    kafka = own_kafka()
    bridge = make_bridge(kafka).start(topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    event = bridge.event()
    assert post(bridge, event) == "accepted"
    assert post(bridge, event) == "duplicate"
    kafka.start()
    assert published(bridge, kafka, topic, 1) == [event["id"]]


def test_a_consolidated_update_with_the_same_id_is_another_version(running, kafka, topic):
    first = running.event("lead", "updated")
    later = dict(first, date_updated="2036-02-03T04:05:06.789000")
    assert [post(running, event) for event in (first, later, first, later)] == [
        "accepted", "accepted", "duplicate", "duplicate"]
    assert published(running, kafka, topic, 2) == sorted([first["id"], f"{first['id']}/{later['date_updated']}"])


def test_the_same_id_and_date_with_other_bytes_is_published_and_counted(running, kafka, topic):
    event = running.event()
    other = json.loads(json.dumps(event))
    other["data"]["name"] = "changed"
    assert [post(running, event), post(running, other)] == ["accepted", "accepted"]
    assert published(running, kafka, topic, 2) == [event["id"], event["id"]]
    assert running.metrics().value("event_conflicts_total") == 1


def test_accounts_do_not_share_marks(make_bridge, kafka, topic):
    bridge = make_bridge(kafka)
    account = bridge.config["accounts"][0]
    bridge.start(accounts=[account, {**account, "name": "second"}],
                 topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    event = bridge.event()
    for name, status in (("main", "accepted"), ("second", "accepted"), ("main", "duplicate"), ("second", "duplicate")):
        assert bridge.post_signed(event, account=name).json["status"] == status


def test_many_at_once_are_accepted_once(running, kafka, topic):
    event = running.event()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda _: post(running, event), range(16)))
    assert sorted(statuses) == ["accepted"] + ["duplicate"] * 15
    assert published(running, kafka, topic, 1) == [event["id"]]
