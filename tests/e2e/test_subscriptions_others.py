"""Somebody else changes the bridge's subscription at Close, or fills the organization's forty places."""
import pytest

from tests.e2e.close_client import HOOK
from tests.e2e.subscriber import PAIRS, Subscriber
from tests.peers.process import wait_until

INTERVAL = "10s"  # the shortest


@pytest.fixture
def subscriber(bridge, close_server, topic):
    close_server.add_foreign()
    yield Subscriber(bridge, close_server, topic, sync="manual").start()
    close_server.check_foreign()


def events_of(pairs):
    return [{"object_type": kind, "action": action} for kind, action in pairs]


def pair_of(event):
    return event["object_type"], event["action"]


def test_what_somebody_edited_is_put_right_and_the_key_stays(subscriber, close_server):
    assert subscriber.sync()["result"] == "created"
    [mine] = subscriber.own
    wanted = {name: value for name, value in mine.json().items() if name != "date_updated"}
    extra_filter = {"type": "field_accessor", "field": "user_id", "filter": {"type": "non_null"}}
    for edit in ({"events": events_of(PAIRS[:1])}, {"events": events_of(PAIRS + [("opportunity", "created")])},
                 {"events": [{**event, "extra_filter": extra_filter} for event in events_of(PAIRS)]},
                 {"url": "https://elsewhere.example.com/"}, {"verify_ssl": False}):
        close_server.edit(mine, **edit)
        assert subscriber.sync()["result"] == "updated", edit
        now = {name: value for name, value in mine.json().items() if name != "date_updated"}
        now["events"].sort(key=pair_of)
        wanted["events"].sort(key=pair_of)
        assert now == wanted, edit
        assert subscriber.sync()["result"] == "unchanged"
    assert close_server.own() == [mine]
    subscriber.check_key_is_known()


def test_within_an_interval_closes_own_pause_is_undone_and_somebodys_is_not(kafka, bridge, close_server, topic):
    subscriber = Subscriber(bridge, close_server, topic, sync=INTERVAL)
    other = {**subscriber.account, "name": "other", "webhook_url": HOOK.replace("main", "other")}
    subscriber.configure(accounts=[subscriber.account, other])
    bridge.start()
    wait_until(lambda: len(close_server.own()) == 2, 30, lambda: f"both are subscribed: {bridge.log()[-3000:]}")
    [first], [second] = close_server.own(HOOK), close_server.own(other["webhook_url"])
    mark = len(close_server.calls)
    close_server.pause(first)
    close_server.edit(second, status="paused")

    def active():
        return [bridge.metrics().value("subscription_active", account=name) for name in ("main", "other")]
    wait_until(lambda: first.is_active and len(close_server.calls) >= mark + 3 and active() == [1, 0], 60,
               lambda: f"it is active again: {active()} {close_server.requests(mark)} {bridge.log()[-3000:]}")
    assert not second.is_active
    assert subscriber.sync("?account=other")["result"] == "reactivated"
    assert second.is_active
    event = close_server.emit(object_type="lead", action="created")
    close_server.delivery.wait_idle()
    assert close_server.delivery.statuses() == {200: 2}
    assert event["id"] in close_server.accepted()


def test_a_subscription_that_somebody_deleted_is_made_again(subscriber, close_server):
    subscriber.sync()
    [mine] = subscriber.own
    close_server.remove(mine)
    assert subscriber.sync()["result"] in ("created", "recreated")
    [now] = subscriber.own
    assert now.key != mine.key
    event = close_server.emit(object_type="lead", action="created")
    close_server.delivery.wait_idle()
    assert (event["id"] in close_server.accepted(), close_server.delivery.statuses()) == (True, {200: 1})


def test_when_forty_are_reached_the_error_says_so_and_nothing_else_happens(bridge, close_server, topic):
    close_server.add_foreign(40)
    subscriber = Subscriber(bridge, close_server, topic, sync="manual").start()
    outcome = subscriber.sync()
    assert outcome["result"] == "failed" and "40" in outcome["error"], outcome
    assert subscriber.own == []
    close_server.check_foreign()
    close_server.remove(close_server.subscriptions.all()[0])
    assert subscriber.sync()["result"] == "created"
    subscriber.check_key_is_known()


def test_a_pair_that_close_does_not_know_is_named_and_the_rest_is_subscribed(bridge, make_close_server, topic):
    for shape in ("named", "index", "generic", "error"):
        close = make_close_server(unknown_pair_shape=shape)
        subscriber = Subscriber(bridge, close, topic, sync="manual")
        subscriber.topic_map = subscriber.topic_map + [{"object_type": "lead", "action": "vanished", "kafka": {"topic": topic}}]
        subscriber.start()
        outcome = subscriber.sync()
        assert outcome["result"] == "created" and "lead" in outcome["error"] and "vanished" in outcome["error"], outcome
        assert subscriber.own[0].pairs == set(PAIRS)
        assert bridge.terminate() == 0
        bridge.folder.joinpath("journal.keys").unlink()
