"""Close delivers again, by the same subscription or another, at any time (RELIABILITY F21); more is in tests/e2e/test_dedupe.py."""
import contextlib

import pytest

from tests.e2e.bridge import KEY
from tests.faults.sender import BODY, Answers, signed_request, word_of
from tests.faults.test_senders import connect

pytestmark = pytest.mark.row("F21")

OTHER_KEY = "11" * 32
AT_ONCE = 200


def event(number):
    return (b'{"id": "ev_%d", "date_created": "2026-01-02T03:04:05.678000", "date_updated": "2026-01-02T03:04:05.678000", '
            b'"object_type": "lead", "object_id": "lead_%d", "lead_id": "lead_%d", "action": "created"}' % (number, number, number))


def deliver(bridge, numbers):
    """Posts them, many in one piece; returns how often each word was answered."""
    words = {}
    numbers = list(numbers)
    with contextlib.closing(connect(bridge)) as connection:
        answers = Answers(connection)
        for start in range(0, len(numbers), AT_ONCE):
            batch = numbers[start:start + AT_ONCE]
            connection.sendall(b"".join(signed_request(BODY % event(number)) for number in batch))
            for _ in batch:
                status, body = answers.next()
                assert status == 200, body
                words[word_of(body)] = words.get(word_of(body), 0) + 1
    return words


def test_none_of_many_events_is_published_twice_also_after_a_kill(kafka, make_bridge, topic, tier, figures):
    count = tier.pick(5000, 1000000)
    kafka.create_topics(topic, partitions=4)
    bridge = make_bridge(kafka).start(topic_map=[{"object_type": "*", "kafka": {"topic": topic}}], journal={"max_size": "4GiB"})
    assert deliver(bridge, range(count)) == {"accepted": count}
    bridge.wait_published("kafka", count, timeout=300)
    assert deliver(bridge, range(0, count, 7)) == {"duplicate": (count + 6) // 7}
    bridge.kill()
    bridge.start()
    assert deliver(bridge, range(count)) == {"duplicate": count}
    assert deliver(bridge, [count]) == {"accepted": 1}
    bridge.wait_published("kafka", 1)
    ids = [record.event_id for record in kafka.read_all(topic, timeout=300)]
    again = len(ids) - len(set(ids))
    assert len(set(ids)) == count + 1
    figures(events=count, delivered_again=count + (count + 6) // 7, published_again=again)
    assert again <= 4000, "only what the kill left unknown"


def test_the_same_event_by_two_subscriptions_is_published_once(kafka, make_bridge, topic):
    bridge = make_bridge(kafka).start(accounts=[{"name": "main", "signature_keys": [KEY, OTHER_KEY], "sync": "manual"}],
                                      topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    bodies = [b'{"subscription_id": "whsub_1", "event": %s}' % event(1), b'{"event": %s, "subscription_id": "whsub_2"}' % event(1)]
    assert bridge.post_signed(bodies[0]).json["status"] == "accepted"
    assert bridge.post_signed(bodies[1], key=OTHER_KEY).json["status"] == "duplicate"
    assert bridge.post_signed(BODY % event(2), key=OTHER_KEY).json["status"] == "accepted"
    bridge.wait_published("kafka", 2)
    assert sorted(record.event_id for record in kafka.read_all(topic)) == ["ev_1", "ev_2"]
