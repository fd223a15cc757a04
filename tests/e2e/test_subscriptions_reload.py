"""The topic map is edited while Close keeps sending: the subscription follows in place, and no event is lost in between."""
import collections
import itertools

from tests.e2e.close_client import HOOK
from tests.e2e.subscriber import PAIRS, Subscriber
from tests.peers.process import wait_until

ADDED = [("activity.note", "created"), ("opportunity", "updated")]


def entry(topic, pair):
    return {"object_type": pair[0], "action": pair[1], "kafka": {"topic": topic}}


def test_reloads_change_the_subscription_in_place_and_lose_nothing(kafka, bridge, close_server, topic):
    kafka.create_topics(topic, partitions=3)
    close_server.add_foreign()
    subscriber = Subscriber(bridge, close_server, topic).start()
    mine = subscriber.wait_synced()
    identity = (mine.id, mine.key)
    kinds = itertools.cycle(PAIRS + ADDED)

    def make():
        kind, action = next(kinds)
        return close_server.maker.event(kind, action)

    def follows(pairs):
        wait_until(lambda: mine.pairs == set(pairs), 30, lambda: f"{pairs}: {mine.json()}\n{bridge.log()[-3000:]}")

    def goes_on():
        count = len(close_server.accepted()) + 60
        wait_until(lambda: len(close_server.accepted()) >= count, 30, lambda: str(close_server.delivery.statuses()))

    with close_server.sending(100, make) as sending:
        goes_on()
        mark = len(close_server.calls)
        for wanted in (PAIRS + ADDED, PAIRS + ADDED[:1], PAIRS + ADDED):
            assert bridge.reload(topic_map=[entry(topic, pair) for pair in wanted]).status == 200
            follows(wanted)
            goes_on()
        known = len(sending.events)
        goes_on()
    close_server.delivery.wait_idle()
    writes = [call for call in close_server.calls[mark:] if call.method != "GET"]
    assert [(call.method, list(call.json)) for call in writes] == [("PUT", ["events"])] * 3
    assert subscriber.own == [mine] and (mine.id, mine.key) == identity
    assert set(close_server.delivery.statuses()) == {200}
    close_server.check_foreign()

    def of(pairs, events):
        return {event["id"] for event in events if (event["object_type"], event["action"]) in pairs}

    wanted = of(PAIRS, sending.events) | of(ADDED, sending.events[known:])
    assert wanted <= close_server.accepted()
    with kafka.reader(topic) as reader:
        reader.until(lambda records: wanted <= {record.event_id for record in records}, 30)
        counts = collections.Counter(record.event_id for record in reader.records)
    assert set(counts.values()) == {1}, "each once"
    assert set(counts) <= close_server.accepted()


def test_accounts_come_and_go_with_a_reload(bridge, close_server, topic):
    subscriber = Subscriber(bridge, close_server, topic).start()
    mine = subscriber.wait_synced()
    other = {**subscriber.account, "name": "other", "webhook_url": HOOK.replace("main", "other")}
    assert bridge.reload(accounts=[subscriber.account, other]).status == 200
    wait_until(lambda: bridge.metrics().value("sync_last_success_timestamp_seconds", account="other"), 30,
               lambda: f"it subscribes, and knows its key: {bridge.log()[-3000:]}")
    assert len(close_server.own(other["webhook_url"])) == 1
    event = close_server.emit(object_type="lead", action="created")
    close_server.delivery.wait_idle()
    assert close_server.delivery.statuses() == {200: 2}, event
    assert bridge.reload(accounts=[other]).status == 200
    states = {account["account"]: account["state"]
              for account in bridge.control("/control/subscriptions").json["accounts"]}
    assert states == {"main": "orphaned", "other": "active"}
    assert subscriber.own == [mine], "it stays at Close until somebody says otherwise"
