"""Subscriptions at Close follow the topic map: DESIGN section 7, "Sync rules"."""
import json
import re
import time

import pytest

from tests.e2e.close_client import HOOK
from tests.e2e.subscriber import PAIRS, Subscriber
from tests.peers.process import wait_until


@pytest.fixture
def subscriber(bridge, close_server, topic):
    """Its syncs are those that a test asks for."""
    close_server.add_foreign()
    yield Subscriber(bridge, close_server, topic, sync="manual")
    close_server.check_foreign()


def pairs_of(answer, member):
    return {tuple(pair) for pair in answer[member]}


def entry(topic, kind, action, **members):
    return {"object_type": kind, "action": action, "kafka": {"topic": topic}, **members}


# ---- the way from an empty Close to events ----

def test_from_an_empty_close_to_events(kafka, subscriber, close_server, topic):
    kafka.create_topics(topic)
    subscriber.account["sync"] = "startup"
    subscriber.start()
    own = subscriber.wait_synced()
    assert (own.url, own.verify_ssl) == (HOOK, True)
    events = [close_server.emit(object_type=kind, action=action) for kind, action in PAIRS]
    not_mapped = close_server.emit(object_type="opportunity", action="created")
    close_server.delivery.wait_idle()
    with kafka.reader(topic) as reader:
        reader.until(lambda records: {event["id"] for event in events} <= {record.event_id for record in records}, 30)
    assert not_mapped["id"] not in close_server.accepted()
    assert set(close_server.delivery.statuses()) == {200}
    state = subscriber.bridge.readyz().json["subscriptions"]
    assert state == {"main": "active"}
    metrics = subscriber.bridge.metrics()
    assert metrics.value("subscription_active", account="main") == 1
    assert metrics.value("subscription_drift", account="main") == 0
    assert metrics.value("close_api_requests_total", status="200") >= 1
    assert metrics.value("close_api_requests_total", status="201") == 1
    assert abs(metrics.value("clock_skew_seconds")) < 5
    assert subscriber.keys_path.stat().st_mode & 0o777 == 0o600
    assert close_server.api_key not in subscriber.bridge.log()
    assert own.key not in subscriber.bridge.log()
