"""The simulator of Close's REST API, held against the answers that were recorded or are documented."""
import http.client
import socket
import ssl

import pytest

from tests.e2e.close_client import HOOK, Client, created, recorded, same_shape
from tests.peers.certificates import Authority
from tests.peers.process import wait_until


# ---- subscriptions ----

def test_a_created_subscription_looks_as_recorded(ask):
    request = recorded("recorded-POST-webhook-request.json")
    status, headers, body = ask("POST", "/webhook/", request)
    wanted = recorded("recorded-POST-webhook-response.json")
    same_shape(body, wanted)
    for name in ("counters", "events", "health_status", "history", "latest_error", "pause_reason", "status", "url", "verify_ssl"):
        assert body[name] == wanted[name], name
    assert (status, headers["content-type"]) == (201, "application/json")
    assert len(bytes.fromhex(body["signature_key"])) == 32


def test_the_list_has_no_keys_and_looks_as_recorded(close_server, ask, hook):
    wanted = recorded("recorded-GET-webhook-list.json")
    mine = created(ask, pairs=[("lead", "created"), ("contact", "updated")])
    event = close_server.maker.event("lead", "created")
    hook.statuses[event["id"]] = [404]
    close_server.emit(event)
    close_server.delivery.wait_idle()
    status, _, body = ask("GET", "/webhook/")
    assert (status, list(body), body["has_more"], len(body["data"])) == (200, list(wanted), False, 1)
    ours, theirs = body["data"][0], wanted["data"][2]
    same_shape(ours, theirs)
    assert ours["counters"] == {"first_fail": 1, "retry_success": 1}
    assert ours["latest_error"] == wanted["data"][0]["latest_error"] == "Exception name: HTTPError, Status code: 404"
    same_shape(ours["history"]["errors"][0], theirs["history"]["errors"][0])
    same_shape(ours["history"]["successes"][0], theirs["history"]["successes"][0])
    assert ours["history"]["successes"][0]["attempt_number"] == 2
    assert mine["signature_key"] not in ask.raw.decode()


def test_the_list_has_pages(close_server, ask):
    ids = [created(ask, url=f"{HOOK}/{number}")["id"] for number in range(5)]
    close_server.behaviour.list_page = 2
    _, _, first = ask("GET", "/webhook/")
    _, _, rest = ask("GET", "/webhook/?_skip=2&_limit=200")
    assert ([one["id"] for one in first["data"]], first["has_more"]) == (ids[:2], True)
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (ids[2:], False)


def test_one_subscription_shows_its_key_only_when_switched_on(close_server, ask):
    mine = created(ask)
    status, _, body = ask("GET", f"/webhook/{mine['id']}/")
    assert (status, "signature_key" in body) == (200, False)
    close_server.behaviour.key_in_get = True
    _, _, body = ask("GET", f"/webhook/{mine['id']}/")
    assert body["signature_key"] == mine["signature_key"]
    documented = recorded("doc-GET-webhook-200.json")
    assert set(documented) <= set(body)


def test_put_is_a_patch_and_keeps_id_and_key(close_server, ask):
    mine = created(ask)
    status, _, paused = ask("PUT", f"/webhook/{mine['id']}/", recorded("doc-PUT-webhook-request.json"))
    wanted = recorded("doc-PUT-webhook-paused-200.json")
    assert (status, paused["status"], paused["pause_reason"]) == (200, wanted["status"], wanted["pause_reason"])
    assert (paused["url"], paused["events"], "signature_key" in paused) == (mine["url"], mine["events"], False)
    assert paused["date_updated"] > mine["date_updated"]
    events = [{"object_type": "activity.note", "action": "updated"}]
    _, _, changed = ask("PUT", f"/webhook/{mine['id']}/", {"status": "active", "events": events, "url": HOOK + "2", "verify_ssl": False})
    assert (changed["status"], changed["pause_reason"], changed["url"], changed["verify_ssl"]) == ("active", None, HOOK + "2", False)
    assert changed["events"] == [{"action": "updated", "extra_filter": None, "object_type": "activity.note"}]
    assert close_server.subscriptions.by_id[mine["id"]].key == mine["signature_key"]


def test_delete_answers_an_empty_object_and_then_it_is_gone(ask):
    mine = created(ask)
    assert ask("DELETE", f"/webhook/{mine['id']}/")[::2] == (200, recorded("recorded-DELETE-webhook-response.json"))
    for method in ("GET", "DELETE"):
        status, _, body = ask(method, f"/webhook/{mine['id']}/")
        assert (status, list(body)) == (404, ["error"])


def test_a_second_active_subscription_with_the_same_url_and_pairs_is_refused(ask):
    pairs = [("lead", "created"), ("lead", "updated")]
    mine = created(ask, pairs=pairs)
    wanted = f"Duplicate active subscription. Existing duplicates are: {mine['id']}."
    body = {"url": HOOK, "events": [{"object_type": kind, "action": action} for kind, action in reversed(pairs)]}
    assert ask("POST", "/webhook/", body)[::2] == (400, {"error": wanted})
    other = created(ask, pairs=pairs[:1])
    assert ask("PUT", f"/webhook/{other['id']}/", {"events": body["events"]})[::2] == (400, {"error": wanted})
    assert ask("PUT", f"/webhook/{mine['id']}/", {"status": "paused"})[0] == 200
    assert ask("POST", "/webhook/", body)[0] == 201, "a paused one is no duplicate"
    assert ask("PUT", f"/webhook/{mine['id']}/", {"status": "active"})[0] == 400


def test_the_forty_first_is_refused(ask):
    for number in range(40):
        created(ask, url=f"{HOOK}/{number}")
    status, _, body = ask("POST", "/webhook/", {"url": HOOK, "events": [{"object_type": "lead", "action": "created"}]})
    assert (status, list(body)) == (400, ["error"])


@pytest.mark.parametrize("body, field", [
    ({"events": [{"object_type": "lead", "action": "created"}]}, "url"),
    ({"url": HOOK}, "events"),
    ({"url": HOOK, "events": []}, "events"),
    ({"url": "hooks.example.com", "events": [{"object_type": "lead", "action": "created"}]}, "url"),
    ({"url": HOOK, "events": [{"object_type": "lead", "action": "created"}], "enabled": True}, "enabled"),
    ({"url": HOOK, "events": [{"object_type": "lead", "action": "created"}], "verify_ssl": "yes"}, "verify_ssl"),
    ({"url": HOOK, "events": [{"object_type": "user", "action": "created"}]}, "events"),
    ({"url": HOOK, "events": [{"object_type": "lead", "action": "created", "extra_filter": {"type": "like"}}]}, "events"),
])
def test_what_is_not_valid_is_refused_in_the_shape_of_a_validation_error(close_server, ask, body, field):
    status, _, answer = ask("POST", "/webhook/", body)
    assert (status, list(answer)) == (400, list(recorded("validation-error-400.json")))
    assert list(answer["field-errors"]) == [field]
    assert close_server.subscriptions.all() == []


def test_an_unknown_pair_can_be_refused_in_every_shape(close_server, ask):
    body = {"url": HOOK, "events": [{"object_type": "lead", "action": "created"}, {"object_type": "user", "action": "created"}]}
    answers = []
    for shape in ("named", "index", "generic", "error"):
        close_server.behaviour.unknown_pair_shape = shape
        status, _, answer = ask("POST", "/webhook/", body)
        answers.append((status, answer))
    assert [status for status, _ in answers] == [400] * 4
    assert "user created" in answers[0][1]["field-errors"]["events"]
    assert list(answers[1][1]["field-errors"]["events"]) == ["1"]
    assert (answers[2][1]["field-errors"], list(answers[3][1])) == ({}, ["error"])


# ---- who asks, and how ----

def test_both_kinds_of_credentials_are_known_and_others_refused(close_server):
    assert Client(close_server, token=close_server.token)("GET", "/webhook/")[0] == 200
    for client in (Client(close_server, key="api_wrong"), Client(close_server, token=close_server.token + "x")):
        status, _, body = client("GET", "/webhook/")
        assert (status, list(body)) == (401, ["error"])
    close_server.revoke(close_server.api_key)
    assert Client(close_server)("GET", "/webhook/")[0] == 401


def test_a_key_that_is_not_an_admins_manages_only_its_own(close_server, ask):
    theirs = created(ask)
    user = Client(close_server, key=close_server.add_key("user", is_admin=False))
    mine = created(user, url=HOOK + "/user")
    assert [one["id"] for one in user("GET", "/webhook/")[2]["data"]] == [mine["id"]]
    for method, body in (("GET", None), ("PUT", {"status": "paused"}), ("DELETE", None)):
        assert user(method, f"/webhook/{theirs['id']}/", body)[0] == 403
    assert len(ask("GET", "/webhook/")[2]["data"]) == 2


def test_other_paths_methods_and_media_types_are_refused(ask):
    assert ask("GET", "/webhook")[0] == 404
    assert ask("GET", "/lead/")[0] == 404
    assert ask("PATCH", "/webhook/")[0] == 405
    assert ask("POST", "/webhook/", {}, headers={"Content-Type": "text/plain"})[0] == 415


def test_rate_limits_are_told_in_both_spellings(close_server, ask):
    close_server.behaviour.rate_limit = (2, 30)
    assert ask("GET", "/webhook/")[1]["ratelimit"] == "limit=2, remaining=1, reset=30"
    close_server.behaviour.rate_limit_separator = "; "
    assert ask("GET", "/webhook/")[1]["ratelimit"] == "limit=2; remaining=0; reset=30"
    status, headers, _ = ask("GET", "/webhook/")
    assert (status, headers["retry-after"]) == (429, "30")
    assert Client(close_server, token=close_server.token)("GET", "/webhook/")[0] == 200, "limits are per key"


def test_the_date_header_follows_the_clock_of_close(close_server, ask):
    close_server.behaviour.clock_skew = -86400 * 400
    assert ask("GET", "/webhook/")[1]["date"].split()[3] < str(2026)


def test_it_can_be_asked_over_tls(make_close_server, tmp_path):
    authority = Authority(tmp_path)
    server = make_close_server(certificate=authority.sign("close"))
    assert Client(server, tls=ssl.create_default_context(cafile=authority.certificate))("GET", "/webhook/")[0] == 200
    with pytest.raises(ssl.SSLCertVerificationError):
        Client(server, tls=ssl.create_default_context())("GET", "/webhook/")


# ---- faults ----

def test_faults_come_in_order_where_they_are_wanted_and_are_logged(close_server, ask):
    close_server.fail_next(status=503, count=2, where=("GET", "/webhook/"), headers={"retry-after": "1"})
    close_server.fail_next(status=200, where=("GET", "/webhook/*"), body=b'"garbage')
    mine = created(ask)
    assert [ask("GET", "/webhook/")[0] for _ in range(2)] == [503, 503]
    with pytest.raises(ValueError):
        ask("GET", "/webhook/")
    assert ask("GET", "/webhook/")[0] == 200
    assert close_server.requests() == ["POST /webhook/"] + ["GET /webhook/"] * 4
    assert [call.status for call in close_server.calls] == [201, 503, 503, 200, 200]
    assert close_server.calls[0].json["url"] == mine["url"]
    assert all("authorization" not in call.headers for call in close_server.calls)


def test_a_redirect_is_answered_on_request(close_server, ask):
    close_server.fail_next(status=302, headers={"Location": "https://elsewhere.example.com/"})
    status, headers, _ = ask("GET", "/webhook/")
    assert (status, headers["location"]) == (302, "https://elsewhere.example.com/")


@pytest.mark.parametrize("cut", ["request", "head", "body"])
def test_connections_are_cut_on_request(close_server, ask, cut):
    close_server.fail_next(cut=cut)
    with pytest.raises((OSError, http.client.HTTPException, ValueError)):
        ask("GET", "/webhook/")
    assert ask("GET", "/webhook/")[0] == 200


def test_a_request_may_take_effect_although_its_answer_is_lost(close_server, ask):
    body = {"url": HOOK, "events": [{"object_type": "lead", "action": "created"}]}
    close_server.fail_next(cut="request", where=("POST", "*"))
    close_server.fail_next(cut="request", where=("POST", "*"), applied=True)
    for count in (0, 1):
        with pytest.raises((OSError, http.client.HTTPException)):
            ask("POST", "/webhook/", body)
        assert len(close_server.own(HOOK)) == count
    close_server.fail_next(status=502, where=("DELETE", "*"), applied=True)
    assert ask("DELETE", f"/webhook/{close_server.own(HOOK)[0].id}/")[0] == 502
    assert close_server.own(HOOK) == []


def test_slow_answers_come_late(close_server, ask):
    close_server.fail_next(delay=5)
    with pytest.raises(socket.timeout):
        ask("GET", "/webhook/", timeout=0.2)
    close_server.fail_next(drip=1)
    with pytest.raises(socket.timeout):
        ask("GET", "/webhook/", timeout=0.2)


def test_a_test_sees_every_step_of_a_request(close_server, ask):
    steps = []
    close_server.on_request = lambda call: steps.append((str(call), call.phase, call.status, len(close_server.own())))
    created(ask)
    wait_until(lambda: len(steps) == 3, 30, "the request is answered")
    assert steps == [("POST /webhook/", "arrived", None, 0), ("POST /webhook/", "applied", None, 1),
                     ("POST /webhook/", "answered", 201, 1)]


def test_a_touched_foreign_subscription_is_noticed(close_server, ask):
    close_server.add_foreign()
    created(ask)
    close_server.check_foreign()
    [first, *_] = close_server.untouched
    ask("PUT", f"/webhook/{first}/", {"verify_ssl": False})
    with pytest.raises(AssertionError):
        close_server.check_foreign()
