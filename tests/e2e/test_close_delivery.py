"""How the simulator of Close delivers to those who subscribed."""
import json

import pytest

from tests.e2e.close_client import HOOK, created
from tests.peers.close_simulator import sign
from tests.peers.process import wait_until


def test_only_subscribed_pairs_are_delivered_signed_with_the_key_of_the_subscription(close_server, ask, hook):
    first = created(ask, pairs=[("lead", "created")])
    second = created(ask, pairs=[("lead", "created"), ("contact", "deleted")])
    events = [close_server.emit(object_type=kind, action=action)
              for kind, action in (("lead", "created"), ("contact", "deleted"), ("contact", "created"))]
    close_server.delivery.wait_idle()
    got = sorted((json.loads(body)["subscription_id"], json.loads(body)["event"]["id"]) for _, body, _ in hook.received)
    assert got == sorted([(first["id"], events[0]["id"]), (second["id"], events[0]["id"]), (second["id"], events[1]["id"])])
    assert all(is_signed for _, _, is_signed in hook.received)
    assert first["signature_key"] != second["signature_key"]
    assert close_server.accepted() == {events[0]["id"], events[1]["id"]}


def test_the_signature_is_over_the_time_of_close(close_server, ask, hook):
    close_server.behaviour.clock_skew = -1000
    mine = created(ask)
    close_server.emit()
    close_server.delivery.wait_idle()
    [(headers, body, _)] = hook.received
    assert headers["Close-Sig-Hash"] == sign(mine["signature_key"], headers["Close-Sig-Timestamp"], body)
    assert abs(int(headers["Close-Sig-Timestamp"]) - close_server.now()) < 60


@pytest.mark.parametrize("extra_filter, ids", [
    ({"type": "field_accessor", "field": "user_id", "filter": {"type": "equals", "value": "user_1"}}, ["a"]),
    ({"type": "field_accessor", "field": "user_id", "filter": {"type": "not_equals", "value": "user_1"}}, ["b", "c"]),
    ({"type": "field_accessor", "field": "user_id", "filter": {"type": "is_null"}}, ["c"]),
    ({"type": "field_accessor", "field": "user_id", "filter": {"type": "non_null"}}, ["a", "b"]),
    ({"type": "field_accessor", "field": "changed_fields", "filter": {"type": "contains", "value": "name"}}, ["b"]),
    ({"type": "field_accessor", "field": "user_id", "filter": {"type": "contains", "value": "er_2"}}, ["b"]),
    ({"type": "not", "filter": {"type": "field_accessor", "field": "user_id", "filter": {"type": "is_null"}}}, ["a", "b"]),
    ({"type": "or", "filters": [
        {"type": "field_accessor", "field": "id", "filter": {"type": "equals", "value": "ev_a"}},
        {"type": "and", "filters": [
            {"type": "field_accessor", "field": "id", "filter": {"type": "non_null"}},
            {"type": "field_accessor", "field": "user_id", "filter": {"type": "is_null"}}]}]}, ["a", "c"]),
    ({"type": "field_accessor", "field": "data", "filter": {
        "type": "field_accessor", "field": "tags", "filter": {
            "type": "any_array_value", "filter": {"type": "equals", "value": 2}}}}, ["b"]),
    ({"type": "field_accessor", "field": "data", "filter": {
        "type": "field_accessor", "field": "tags", "filter": {"type": "equals", "value": 1}}}, []),
])
def test_a_filter_selects(close_server, hook, extra_filter, ids):
    close_server.subscriptions.create(close_server.credentials[close_server.api_key], {"url": HOOK, "events": [
        {"object_type": "lead", "action": "updated", "extra_filter": extra_filter}]})
    make = close_server.maker.event
    close_server.emit(make("lead", "updated", event_id="ev_a", user_id="user_1", changed_fields=["status_id"], data={}))
    close_server.emit(make("lead", "updated", event_id="ev_b", user_id="user_2", changed_fields=["name"], data={"tags": [1, 2.0]}))
    close_server.emit(make("lead", "updated", event_id="ev_c", user_id=None, changed_fields=[], data={"tags": True}))
    close_server.delivery.wait_idle()
    assert sorted(event["id"] for event in hook.events()) == ["ev_" + name for name in ids]


def test_a_failing_delivery_does_not_hold_up_others_and_is_repeated(close_server, ask, hook):
    close_server.behaviour.retry_scale = 0.04  # the first retry after 2.4 s
    created(ask)
    stuck = close_server.maker.event()
    hook.statuses[stuck["id"]] = [503]
    close_server.emit(stuck)
    others = [close_server.emit()["id"] for _ in range(20)]
    close_server.delivery.wait_idle()
    got = [event["id"] for event in hook.events()]
    assert sorted(got) == sorted(others + [stuck["id"]] * 2)
    assert got[-1] == stuck["id"]


def test_three_days_of_failures_pause_it_and_clear_its_queue_until_it_is_activated(close_server, ask, hook):
    mine = created(ask)
    close_server.behaviour.pause_after = 300  # 0.3 s
    hook.answers_always = 500
    for _ in range(10):
        close_server.emit()
    wait_until(lambda: not close_server.own(HOOK)[0].is_active, 10, "it is paused")
    close_server.delivery.wait_idle()
    _, _, paused = ask("GET", f"/webhook/{mine['id']}/")
    assert (paused["status"], paused["pause_reason"]) == ("paused", "failing")
    hook.answers_always = None
    close_server.emit()
    assert ask("PUT", f"/webhook/{mine['id']}/", {"status": "active"})[0] == 200
    last = close_server.emit()
    close_server.delivery.wait_idle()
    assert close_server.accepted() == {last["id"]}, "what was queued, and what happened meanwhile, never comes"


def test_a_backlog_that_is_too_long_pauses_it(close_server, ask, hook):
    created(ask)
    close_server.behaviour.pause_backlog = 50
    hook.answers_always = 500
    for _ in range(60):
        close_server.emit()
    [mine] = close_server.own(HOOK)
    assert (mine.is_active, close_server.delivery.pending) == (False, 0)


def test_a_deleted_subscription_gets_nothing_more(close_server, ask, hook):
    mine = created(ask)
    hook.answers_always = 500
    close_server.emit()
    wait_until(lambda: hook.received, 30, "the first attempt")
    ask("DELETE", f"/webhook/{mine['id']}/")
    close_server.delivery.wait_idle()
    close_server.emit()
    assert close_server.delivery.pending == 0


def test_updates_come_after_the_consolidation_delay(close_server, ask, hook):
    created(ask, pairs=[("lead", "created"), ("lead", "updated")])
    close_server.behaviour.consolidation_delay = 0.5
    late, early = close_server.emit(action="updated"), close_server.emit(action="created")
    close_server.delivery.wait_idle()
    assert [event["id"] for event in hook.events()] == [early["id"], late["id"]]


def test_a_url_that_leads_off_this_machine_is_never_asked(close_server, ask):
    created(ask, url="https://example.com/")
    close_server.behaviour.pause_after = 200
    close_server.emit()
    wait_until(lambda: not close_server.own()[0].is_active, 10, "it is paused")
    assert close_server.own()[0].latest_error == "Exception name: ConnectionError"


def test_it_keeps_sending_on_request(close_server, ask, hook):
    created(ask)
    with close_server.sending(rate=500) as sending:
        wait_until(lambda: len(sending.events) >= 100, 10, "a hundred are sent")
    close_server.delivery.wait_idle()
    assert close_server.accepted() == {event["id"] for event in sending.events}
