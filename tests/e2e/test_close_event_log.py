"""The Event Log of the simulator of Close, held against its documents and what was measured."""
import urllib.parse

import pytest

from tests.e2e.close_client import Client, created, recorded

MINUTE, HOUR, DAY = 60, 3600, 86400


def page(ask, **query):
    status, _, body = ask("GET", "/event/?" + urllib.parse.urlencode(query))
    assert status == 200, body
    return body


def ids(body):
    return [event["id"] for event in body["data"]]


def walk(ask, **query):
    """The ids of all pages."""
    found = page(ask, **query)
    seen = ids(found)
    while found["cursor_next"]:
        query = {name: value for name, value in query.items() if not name.startswith("date_updated")}
        found = page(ask, **{**query, "_cursor": found["cursor_next"]})
        seen += ids(found)
    return seen


@pytest.fixture
def past(close_server):
    """past(seconds, object_type, action, ...): an event that happened so long ago, in the log."""
    def make(seconds, object_type="lead", action="created", **members):
        date = close_server.ago(seconds)
        event = close_server.maker.event(object_type, action, date_created=date, date_updated=date, **members)
        close_server.log.record(event)
        return event
    return make


def test_an_empty_page_looks_as_documented(ask):
    assert list(page(ask)) == list(recorded("doc-GET-event-list-200.json"))
    assert page(ask) == {"cursor_next": None, "cursor_previous": None, "data": []}


def test_events_come_newest_first_fifty_a_page(ask, past):
    wanted = [past(1000 - number)["id"] for number in range(120)][::-1]
    first = page(ask)
    assert (len(first["data"]), walk(ask)) == (50, wanted)
    second = page(ask, _cursor=first["cursor_next"], _limit=10)
    assert ids(second) == wanted[50:60]
    assert ids(page(ask, _cursor=second["cursor_previous"])) == wanted[:50]
    assert ids(page(ask, _limit=3)) == wanted[:3]
    status, _, body = ask("GET", "/event/?_limit=51")
    assert status == 400 and "max_limit=50" in body["error"]


def test_an_event_is_in_the_log_at_once_as_its_webhook_spells_it(close_server, ask):
    event = close_server.emit()
    assert page(ask)["data"] == [event]
    assert ask("GET", f"/event/{event['id']}/")[::2] == (200, event)
    assert ask("GET", "/event/ev_none/")[0] == 404
    assert ask("POST", "/event/", {})[0] == 405


def test_dates_bound_it_and_stay_with_the_cursor(close_server, ask, past):
    past(3 * HOUR)
    inside = [past(2 * HOUR - number) for number in range(60)]
    past(HOUR)
    first, last = inside[0]["date_updated"], inside[-1]["date_updated"]
    wanted = [event["id"] for event in inside][::-1]
    assert walk(ask, date_updated__gte=first, date_updated__lte=last) == wanted
    assert walk(ask, date_updated__gt=first, date_updated__lt=last) == wanted[1:-1]
    assert walk(ask, date_updated__gt=first + "Z", date_updated__lt=last + "+00:00") == wanted[1:-1]
    zoned = (first[:10] + "T" + f"{int(first[11:13]):02d}" + first[13:] + "-00:00")
    assert walk(ask, date_updated__gte=zoned, date_updated__lte=last) == wanted
    assert ask("GET", "/event/?date_updated__gt=yesterday")[0] == 400
    assert ask("GET", f"/event/?date_updated__gt={first}+00:00")[0] == 400, "a plus in a query is a space"


@pytest.mark.parametrize("names, is_allowed", [
    ("", True), ("lead_id", True), ("user_id", True), ("request_id", True), ("object_type action", True),
    ("object_type object_id", True), ("object_id action", True), ("lead_id object_type", True), ("lead_id user_id", True),
    ("lead_id object_type action", True), ("lead_id user_id object_type action", True), ("user_id object_id action", True),
    ("object_type", False), ("action", False), ("object_id", False), ("lead_id action", False), ("lead_id object_id", False),
    ("request_id user_id", False), ("user_id action", False),
])
def test_only_the_listed_filters_combine(close_server, ask, past, names, is_allowed):
    event = past(HOUR, "contact", "updated")
    past(HOUR)
    query = {name: event[name] for name in names.split()}
    for bounds in ({}, {"date_updated__gte": close_server.ago(DAY)}):
        status, _, body = ask("GET", "/event/?" + urllib.parse.urlencode({**query, **bounds}))
        assert status == (200 if is_allowed else 400)
        if is_allowed:
            assert (event["id"] in ids(body), len(body["data"])) == (True, 1 if names and names != "user_id" else 2)


def test_parameters_that_it_does_not_know_are_ignored(close_server, ask, past):
    past(2 * HOUR)
    assert len(page(ask, date_created__gte=close_server.ago(MINUTE), _skip=1, _fields="id")["data"]) == 1


def test_filters_have_to_be_repeated_with_a_cursor(ask, past):
    for number in range(120):
        past(1000 - number, object_type=("lead", "contact")[number % 2])
    first = page(ask, object_type="lead", action="created", _limit=20)
    repeated = page(ask, object_type="lead", action="created", _cursor=first["cursor_next"])
    assert {event["object_type"] for event in repeated["data"]} == {"lead"}
    assert {event["object_type"] for event in page(ask, _cursor=first["cursor_next"])["data"]} == {"lead", "contact"}


def test_cursors_expire(close_server, ask, past):
    for number in range(60):
        past(1000 - number)
    cursor = page(ask)["cursor_next"]
    close_server.log.expire_cursors()
    status, _, body = ask("GET", f"/event/?_cursor={cursor}")
    assert (status, list(body)) == (400, ["error"])
    cursor = page(ask)["cursor_next"]
    close_server.behaviour.cursor_lifetime = 0.0
    assert ask("GET", f"/event/?_cursor={cursor}")[0] == 400


def test_it_forgets_after_thirty_days(ask, past):
    gone, kept = past(30 * DAY + MINUTE), past(30 * DAY - MINUTE)
    assert walk(ask) == [kept["id"]]
    assert [ask("GET", f"/event/{event['id']}/")[0] for event in (gone, kept)] == [404, 200]


def test_who_is_no_admin_sees_no_data_after_an_hour(close_server, ask, past):
    past(HOUR + MINUTE)
    past(HOUR - MINUTE)
    user = Client(close_server, key=close_server.add_key("user", is_admin=False))
    young, old = page(user)["data"]
    assert ({"data", "previous_data"} <= set(young), {"data", "previous_data"} & set(old)) == (True, set())
    assert "data" not in user("GET", f"/event/{old['id']}/")[2]
    assert all("data" in event for event in page(ask)["data"])


def test_changes_of_one_object_become_one_event(close_server, ask, hook):
    created(ask, pairs=[("lead", "updated")])
    close_server.behaviour.consolidation_delay = 0.5
    lead = close_server.maker.id("lead")
    first = close_server.emit(object_type="lead", action="updated", lead_id=lead, date_updated=close_server.ago(0.002),
                              changed_fields=["name"], previous_data={"name": "first"})
    other = close_server.emit(object_type="lead", action="updated")
    second = close_server.emit(object_type="lead", action="updated", lead_id=lead, data={"name": "third", "url": "new"},
                               changed_fields=["name", "url"], previous_data={"name": "second", "url": "old"})
    assert (second["id"], second["date_created"]) == (first["id"], first["date_created"])
    assert second["date_updated"] > first["date_updated"]
    assert second["changed_fields"] == ["name", "url"]
    assert second["previous_data"] == {"name": "first", "url": "old"}
    assert second["data"] == {"name": "third", "url": "new"}
    assert page(ask)["data"] == [second, other], "the log has it before the webhook comes"
    assert hook.received == []
    close_server.delivery.wait_idle()
    assert sorted(hook.events(), key=lambda event: event["id"]) == sorted([second, other], key=lambda event: event["id"])
    later = close_server.emit(object_type="lead", action="updated", lead_id=lead)
    assert later["id"] != first["id"], "what comes after the delay is an event of its own"


def test_a_later_version_of_a_delivered_event_replaces_it_and_is_delivered(close_server, ask, hook):
    created(ask, pairs=[("lead", "updated")])
    first = close_server.emit(object_type="lead", action="updated", date_updated=close_server.ago(0.002))
    second = close_server.emit({**first, "date_updated": close_server.ago(0), "data": {}})
    close_server.delivery.wait_idle()
    assert sorted(event["date_updated"] for event in hook.events()) == [first["date_updated"], second["date_updated"]]
    assert page(ask)["data"] == [second]


def test_it_can_spell_events_as_the_documents_do(close_server, ask):
    example = recorded("event-note.created.json")
    note = close_server.emit(object_type="activity.note", action="created")
    gone = close_server.emit(object_type="lead", action="deleted")
    close_server.behaviour.log_spelling = "documented"
    shown = {event["id"]: event for event in page(ask)["data"]}
    assert list(shown[note["id"]]) == list(example)
    assert (shown[gone["id"]]["data"], gone["data"]) == (None, {})
    assert shown[note["id"]]["object_type"] == "activity.note"
    close_server.behaviour.log_spelling = "older"
    assert ask("GET", f"/event/{note['id']}/")[2]["object_type"] == example["object_type"] == "note"


def test_a_page_can_be_damaged_on_request(close_server, ask):
    close_server.emit()
    close_server.fail_next(where=("GET", "/event/"), edit=lambda body: {**body, "data": [{"id": 7}]})
    assert page(ask)["data"] == [{"id": 7}]
    assert len(page(ask)["data"][0]) > 1


def test_its_rate_limit_is_its_own(close_server, ask):
    close_server.behaviour.rate_limit = (1, 30)
    assert [ask("GET", path)[0] for path in ("/event/", "/webhook/", "/event/", "/webhook/")] == [200, 200, 429, 429]
