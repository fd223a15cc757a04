"""Subscriptions at Close follow the topic map: DESIGN section 7, "Sync rules"."""
import http.client
import json
import re
import threading
import time

import pytest

from tests.e2e.close_client import HOOK
from tests.e2e.openapi import check_against_openapi
from tests.e2e.subscriber import PAIRS, Subscriber
from tests.peers.certificates import Authority
from tests.peers.process import free_port, wait_until

WRITES = ("POST", "PUT", "DELETE")


@pytest.fixture
def subscriber(bridge, close_server, topic):
    """Its syncs are those that a test asks for; nothing else may be touched, and no secret shown."""
    close_server.add_foreign()
    made = Subscriber(bridge, close_server, topic, sync="manual")
    yield made
    close_server.check_foreign()
    shown = bridge.log()
    if bridge.should_run:
        check_against_openapi("Readiness", bridge.readyz().json)
        shown += bridge.metrics().text + bridge.readyz().body.decode()
        shown += bridge.control("/control/subscriptions").body.decode()
    for secret in [close_server.api_key, close_server.token] + [one.key for one in close_server.own()]:
        assert secret not in shown


def entry(topic, kind, action, **members):
    return {"object_type": kind, "action": action, "kafka": {"topic": topic}, **members}


def writes(close, mark=0):
    return [call for call in close.calls[mark:] if call.method in WRITES]


def show(subscriber, query="", name="main"):
    answer = subscriber.bridge.control("/control/subscriptions" + query)
    assert answer.status == 200, answer
    check_against_openapi("Subscriptions", answer.json)
    return next(account for account in answer.json["accounts"] if account["account"] == name)


def delivered(close, **event):
    """An event of Close was delivered and accepted."""
    made = close.emit(**event)
    close.delivery.wait_idle()
    return made["id"] in close.accepted()


# ---- the way from an empty Close to events, and on ----

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
    wait_until(lambda: subscriber.bridge.readyz().json.get("subscriptions") == {"main": "active"}, 30,
               lambda: subscriber.bridge.readyz().body)
    metrics = subscriber.bridge.metrics()
    assert metrics.value("subscription_active", account="main") == 1
    assert metrics.value("subscription_drift", account="main") == 0
    assert metrics.value("close_api_requests_total", status="200") >= 1
    assert metrics.value("close_api_requests_total", status="201") == 1
    assert abs(metrics.value("clock_skew_seconds")) < 5
    assert subscriber.keys_path.stat().st_mode & 0o777 == 0o600


def test_another_topic_map_is_a_put_that_keeps_id_and_key(subscriber, close_server, topic):
    user = {"type": "field_accessor", "field": "user_id", "filter": {"type": "equals", "value": "user_1"}}
    subscriber.start()
    created = subscriber.sync()
    assert (created["result"], created["removed"], created["error"]) == ("created", [], None)
    assert {tuple(pair) for pair in created["added"]} == set(PAIRS)
    [mine] = subscriber.own
    assert created["subscription_id"] == mine.id
    assert subscriber.sync()["result"] == "unchanged"

    subscriber.topic_map = [entry(topic, "lead", "created"), entry(topic, "lead", "updated", extra_filter=user),
                            entry(topic, "opportunity", ["created", "deleted"])]
    subscriber.account["verify_ssl"] = False
    assert subscriber.bridge.terminate() == 0
    subscriber.start()
    mark = len(close_server.calls)
    planned = subscriber.sync("?dry_run=true")
    assert writes(close_server, mark) == [], "a dry run changes nothing"
    done = subscriber.sync()
    assert planned == done, "and says what will be done"
    assert done["result"] == "updated"
    assert done["added"] == [["opportunity", "created"], ["opportunity", "deleted"]]
    assert done["removed"] == [["contact", "created"]]
    assert done["changes"] == ["extra_filter of lead updated: one now", "verify_ssl: true, now false"]
    assert [call.method for call in writes(close_server, mark)] == ["PUT"]
    [now] = subscriber.own
    assert (now.id, now.key) == (mine.id, mine.key)
    assert {(event["object_type"], event["action"]): event["extra_filter"] for event in now.events} == {
        ("lead", "created"): None, ("lead", "updated"): user, ("opportunity", "created"): None,
        ("opportunity", "deleted"): None}
    subscriber.check_key_is_known()
    assert show(subscriber)["warnings"], "verify_ssl is off"


def test_a_reload_brings_the_new_topic_map_to_close(bridge, subscriber, close_server, topic):
    subscriber.account["sync"] = "startup"
    subscriber.start()
    mine = subscriber.wait_synced()
    key = mine.key
    with close_server.sending(rate=100) as sending:
        wait_until(lambda: len(sending.events) > 50, 30, "events are sent")
        answer = bridge.reload(topic_map=subscriber.topic_map + [entry(topic, "opportunity", "created")])
        assert answer.status == 200, answer
        wait_until(lambda: ("opportunity", "created") in mine.pairs, 30, lambda: close_server.requests())
    close_server.delivery.wait_idle()
    assert (subscriber.own, mine.key) == ([mine], key)
    assert {event["id"] for event in sending.events} == close_server.accepted()
    assert set(close_server.delivery.statuses()) == {200}
    assert delivered(close_server, object_type="opportunity", action="created")


def test_another_url_is_a_put_and_an_oauth_token_does_as_well(bridge, subscriber, close_server):
    del subscriber.account["api_key"]
    subscriber.account["oauth_token"] = close_server.token
    subscriber.start()
    subscriber.sync()
    [mine] = subscriber.own
    moved = HOOK.replace("//hooks", "//moved")
    close_server.routes["https://moved.example.com"] = lambda: f"http://{bridge.address}"
    subscriber.account["webhook_url"] = moved
    assert bridge.terminate() == 0
    subscriber.start()
    done = subscriber.sync()
    assert (done["result"], done["subscription_id"], done["changes"]) == ("updated", mine.id, [f"url: {HOOK}, now {moved}"])
    assert close_server.own() == close_server.own(moved) == [mine]
    assert delivered(close_server, object_type="lead", action="created")


def test_the_list_is_read_to_its_end(subscriber, close_server):
    close_server.behaviour.list_page = 2
    subscriber.start()
    assert subscriber.sync()["result"] == "created"
    assert subscriber.sync()["result"] == "unchanged", "ours stands on the last page"
    assert len(subscriber.own) == 1


# ---- paused ----

def test_what_close_paused_is_activated_at_start_and_what_somebody_paused_is_not(bridge, subscriber, close_server):
    subscriber.account["sync"] = "startup"
    subscriber.start()
    mine = subscriber.wait_synced()
    assert bridge.terminate() == 0
    close_server.pause(mine)
    subscriber.start()
    wait_until(lambda: mine.is_active, 30, lambda: f"it is active again: {bridge.log()[-3000:]}")
    wait_until(lambda: re.search(r"event=subscription\.gap .*since=20\d\d-\d\d-\d\dT\S+Z until=20", bridge.log()), 30,
               "the time that may be missing is named")
    assert bridge.terminate() == 0

    close_server.edit(mine, status="paused")
    subscriber.start()
    wait_until(lambda: bridge.readyz().json.get("subscriptions") == {"main": "paused"}, 30, lambda: bridge.readyz().body)
    assert bridge.readyz().status == 200, "events could be accepted"
    assert not mine.is_active
    assert bridge.metrics().value("subscription_active", account="main") == 0
    seen = show(subscriber)
    assert (seen["state"], seen["close"]["status"], seen["close"]["pause_reason"]) == ("paused", "paused", "api")
    assert subscriber.sync()["result"] == "reactivated"
    assert mine.is_active
    assert show(subscriber)["state"] == "active"


def test_failing_deliveries_are_seen_before_close_pauses(bridge, subscriber, close_server):
    subscriber.start()
    subscriber.sync()
    [mine] = subscriber.own
    close_server.routes.clear()
    close_server.routes["https://hooks.example.com"] = "http://127.0.0.1:9"
    close_server.emit(object_type="lead", action="created")
    wait_until(lambda: mine.errors, 30, "a delivery failed")
    seen = show(subscriber)
    assert (seen["state"], seen["close"]["failures"] > 0) == ("failing", True)
    assert seen["close"]["latest_error"] and seen["close"]["failing_since"] < seen["close"]["pauses_at"]
    assert bridge.metrics().value("subscription_failing_since_timestamp_seconds", account="main") > time.time() - 60


# ---- keys ----

def test_a_damaged_keys_file_is_set_aside_and_the_key_replaced(bridge, subscriber, close_server):
    subscriber.start()
    subscriber.sync()
    [lost] = subscriber.own
    assert bridge.terminate() == 0
    content = subscriber.keys_path.read_bytes()
    subscriber.keys_path.write_bytes(content.replace(b'"key":"', b'"key":"0', 1))
    subscriber.start()
    assert "event=keys.damaged" in bridge.log()
    assert list(bridge.folder.glob("journal.keys.damaged-*"))
    done = subscriber.sync()
    assert (done["result"], done["gap"]["since"] <= done["gap"]["until"]) == ("recreated", True)
    [now] = subscriber.own
    assert now.id != lost.id
    subscriber.check_key_is_known()


def test_a_keys_file_that_others_may_read_is_refused(bridge, subscriber):
    subscriber.start()
    subscriber.sync()
    assert bridge.terminate() == 0
    subscriber.keys_path.chmod(0o644)
    bridge.launch()
    assert bridge.process.child.wait(20) == 78
    assert "chmod 600" in bridge.log()


def test_configured_keys_adopt_a_subscription_that_was_made_elsewhere(bridge, subscriber, close_server):
    theirs = close_server.subscribe(HOOK, [("lead", "created")])
    subscriber.account["signature_keys"] = [theirs.key]
    subscriber.start()
    done = subscriber.sync()
    assert (done["result"], done["subscription_id"]) == ("updated", theirs.id)
    assert (subscriber.own, theirs.pairs) == ([theirs], set(PAIRS))
    assert show(subscriber)["stored"]["subscription_id"] == theirs.id
    subscriber.check_key_is_known()


# ---- unsubscribing ----

def test_unsubscribed_is_unsubscribed_until_somebody_syncs(bridge, subscriber, close_server):
    subscriber.account["sync"] = "startup"
    subscriber.start()
    mine = subscriber.wait_synced()
    late = close_server.delivery.body(mine, close_server.maker.event("lead", "created"))
    answer = bridge.control("/control/subscriptions", "DELETE")
    [gone] = answer.json["accounts"]
    assert (answer.status, gone["result"], gone["error"]) == (200, "unsubscribed", None)
    assert {tuple(pair) for pair in gone["removed"]} == set(PAIRS)
    assert close_server.own() == []
    wait_until(lambda: bridge.post_signed(late, key=mine.key).status == 401, 30, "a late retry is answered 401")
    assert mine.key not in subscriber.keys_path.read_text() and mine.id not in subscriber.keys_path.read_text()
    assert bridge.control("/control/subscriptions", "DELETE").json["accounts"][0]["result"] == "unsubscribed", "again"

    mark = len(close_server.calls)
    bridge.restart()
    wait_until(lambda: bridge.readyz().json.get("subscriptions") == {"main": "unsubscribed"}, 30, lambda: bridge.readyz().body)
    assert writes(close_server, mark) == []
    assert show(subscriber)["state"] == "unsubscribed"
    assert subscriber.sync()["result"] == "created"
    subscriber.check_key_is_known()


def test_a_removal_that_failed_is_finished_later(bridge, subscriber, close_server):
    subscriber.start()
    subscriber.sync()
    close_server.fail_next(403, where=("DELETE", "*"))
    [failed] = bridge.control("/control/subscriptions?account=main", "DELETE").json["accounts"]
    assert failed["result"] == "failed" and "administrator" in failed["error"]
    assert len(subscriber.own) == 1
    subscriber.account["sync"] = "startup"
    assert bridge.terminate() == 0
    subscriber.start()
    wait_until(lambda: close_server.own() == [], 30, lambda: f"it is deleted: {close_server.requests()}")


def test_on_stop_unsubscribe_deletes_at_the_stop_and_subscribes_at_the_start(bridge, subscriber, close_server):
    subscriber.account.update(sync="startup", on_stop="unsubscribe")
    subscriber.start()
    first = subscriber.wait_synced()
    assert bridge.terminate() == 0
    assert close_server.own() == []
    subscriber.start()
    assert subscriber.wait_synced().id != first.id
    close_server.fail_next(where=("GET", "*"), delay=30.0, count=None)
    assert bridge.terminate() == 0, "also while Close does not answer"
    close_server.heal()
    assert len(close_server.own()) == 1


def test_an_account_that_was_removed_is_listed_until_somebody_says_otherwise(bridge, subscriber, close_server):
    subscriber.start()
    subscriber.sync()
    [mine] = subscriber.own
    other = {**subscriber.account, "name": "other", "webhook_url": HOOK.replace("main", "other")}
    assert bridge.terminate() == 0
    subscriber.start(accounts=[other])
    orphan = show(subscriber)
    assert (orphan["state"], orphan["stored"]["subscription_id"]) == ("orphaned", mine.id)
    assert bridge.control("/control/sync?account=main", "POST").status == 404
    [gone] = bridge.control("/control/subscriptions?account=main", "DELETE").json["accounts"]
    assert gone["result"] == "unsubscribed" and mine.id in gone["steps"][0]
    assert [account["account"] for account in bridge.control("/control/subscriptions").json["accounts"]] == ["other"]
    assert subscriber.own == [mine], "nobody has a key to delete it with"
    assert bridge.control("/control/subscriptions?account=main", "DELETE").status == 404


# ---- what Close may answer ----

FAULTS = {
    "key": (dict(status=401), "check api_key"),
    "plan": (dict(status=402, json_body={"error": "Upgrade your plan"}), "plan at Close does not include this (402): Upgrade"),
    "role": (dict(status=403), "key of an administrator"),
    "slower": (dict(status=429, headers={"retry-after": "900"}), "pause of 900 s"),
    "fault": (dict(status=500, count=None), "Close has a fault (500"),
    "garbage": (dict(body=b"<html>"), "not JSON"),
    "no list": (dict(json_body={"data": 7}), "no list of subscriptions"),
    "redirect": (dict(status=301, headers={"location": "http://169.254.169.254/"}), "redirect (301) to http://169.254.169.254/"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_an_answer_that_is_none_says_what_to_do_and_changes_nothing(bridge, subscriber, close_server, name):
    fault, says = FAULTS[name]
    subscriber.start()
    subscriber.sync()
    [mine] = subscriber.own
    close_server.edit(mine, events=[{"object_type": "lead", "action": "created"}])
    before = mine.json()
    mark = len(close_server.calls)
    close_server.fail_next(**{"where": ("GET", "/webhook/"), **fault})
    failed = subscriber.sync()
    assert failed["result"] == "failed" and says in failed["error"], failed
    assert (writes(close_server, mark), mine.json()) == ([], before)
    assert delivered(close_server, object_type="lead", action="created"), "webhooks go on"
    close_server.heal()
    if name == "slower":
        assert "pause of" in subscriber.sync()["error"], "Close is not asked before its time"
    else:
        assert subscriber.sync()["result"] == "updated"


@pytest.mark.parametrize("fault", [dict(status=500), dict(cut="head", applied=True), dict(body=b"{}", applied=True)],
                         ids=["refused", "lost", "garbled"])
def test_a_creation_whose_answer_is_lost_leaves_one_subscription_with_a_known_key(bridge, subscriber, close_server, fault):
    subscriber.start()
    close_server.fail_next(where=("POST", "*"), **fault)
    assert subscriber.sync()["result"] == "failed"
    assert len(subscriber.own) == (0 if fault.get("status") else 1)
    assert subscriber.sync()["result"] in ("created", "recreated")
    assert len(subscriber.own) == 1
    subscriber.check_key_is_known()


def test_a_key_that_cannot_be_stored_takes_its_subscription_back(bridge, subscriber, close_server):
    subscriber.start()
    in_the_way = bridge.folder / "journal.keys.new"
    in_the_way.mkdir()
    failed = subscriber.sync()
    assert failed["result"] == "failed" and "deleted again" in failed["error"], failed
    assert close_server.own() == []
    in_the_way.rmdir()
    assert subscriber.sync()["result"] == "created"
    subscriber.check_key_is_known()


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(bridge, make_close_server, tmp_path, topic):
    close = make_close_server(certificate=Authority(tmp_path).sign("close"))
    subscriber = Subscriber(bridge, close, topic, sync="manual").start()
    failed = subscriber.sync()
    assert failed["result"] == "failed" and "certificate" in failed["error"] and "not trusted" in failed["error"], failed
    assert close.calls == []


def test_a_pair_that_close_refuses_is_left_out_while_the_others_go_on(bridge, subscriber, close_server, topic):
    subscriber.start()
    subscriber.sync()
    subscriber.topic_map += [entry(topic, "lead", "vanished"), entry(topic, "opportunity", "created"),
                             entry(topic, "user", ["created", "updated"])]
    assert bridge.terminate() == 0
    subscriber.start()
    with close_server.sending(rate=50) as sending:
        wait_until(lambda: len(sending.events) > 10, 30, "events are sent")
        done = subscriber.sync()
    close_server.delivery.wait_idle()
    assert done["result"] == "updated"
    assert done["refused"] == [["lead", "vanished"], ["user", "created"], ["user", "updated"]]
    assert all(name in done["error"] for name in ("lead vanished", "user created", "user updated"))
    [mine] = subscriber.own
    assert mine.pairs == set(PAIRS) | {("opportunity", "created")}
    assert {event["id"] for event in sending.events} == close_server.accepted(), "no pair was missing meanwhile"
    assert show(subscriber)["drift"]["count"] == 0
    assert show(subscriber)["refused"] == done["refused"]
    assert bridge.metrics().value("subscription_drift", account="main") == 0


# ---- at the same time ----

def test_two_syncs_at_once_are_one_after_the_other(bridge, subscriber, close_server):
    subscriber.start()
    results = []
    threads = [threading.Thread(target=lambda: results.append(subscriber.sync()["result"])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["created", "unchanged", "unchanged", "unchanged"]
    assert [call.method for call in writes(close_server)] == ["POST"]


def test_a_stop_does_not_wait_for_close(bridge, subscriber, close_server):
    subscriber.start()
    close_server.fail_next(where=("GET", "*"), delay=60.0, count=None)
    asked = [http.client.HTTPConnection(bridge.control_address, timeout=30) for _ in range(2)]
    for connection in asked:
        connection.request("POST", "/control/sync")
    wait_until(lambda: close_server.calls, 30, "Close was asked")
    assert bridge.control("/healthz").status == 200, "and what came before this is taken"
    assert bridge.terminate() == 0, "in time"
    answers = []
    for connection in asked:
        response = connection.getresponse()
        answers.append((response.status, response.read().decode()))
        connection.close()
    assert sorted(status for status, _ in answers) == [200, 503]
    assert "the bridge stops" in json.loads(dict(answers)[200])["accounts"][0]["error"]
    close_server.heal()


# ---- parameters ----

def test_a_sync_does_not_wait_for_a_kafka_that_is_away(own_kafka, make_bridge, close_server, topic):
    bridge = make_bridge(own_kafka())
    subscriber = Subscriber(bridge, close_server, topic, sync="manual")
    subscriber.start(control={"address": f"127.0.0.1:{free_port()}"})
    began = time.monotonic()  # a moment before the bridge itself knows it
    answer = bridge.control("/control/sync", "POST")
    assert time.monotonic() - began < 4
    check_against_openapi("Syncs", answer.json)
    assert (answer.json["accounts"][0]["result"], answer.json["topics"]) == ("created", None)
    done = bridge.run("sync", "-c", bridge.config_path)
    assert (done.returncode, "no Kafka broker answers" in done.stdout) == (0, True), done


def test_what_is_asked_wrongly_is_refused(bridge, subscriber):
    subscriber.start()
    subscriber.sync()
    assert bridge.control("/control/sync?dry_run=maybe", "POST").status == 400
    assert bridge.control("/control/sync?account=nobody", "POST").status == 404
    for method, path in (("POST", "/control/sync?dryrun=true"), ("DELETE", "/control/subscriptions?dry_run=true"),
                         ("GET", "/control/subscriptions?acount=main")):
        answer = bridge.control(path, method)
        assert (answer.status, answer.json["error"]) == (400, "unknown_parameter"), path
    for method, path in (("POST", "/control/sync?account="), ("DELETE", "/control/subscriptions?account=")):
        assert bridge.control(path, method).status == 404, "no name is not every account"
    assert len(subscriber.own) == 1, "what was refused changed nothing"
    assert bridge.control("/control/subscriptions?account=" + "x" * 100, "DELETE").status == 404
    assert bridge.control("/control/sync").status == 405
    off = {"name": "off", "signature_keys": [], "api_key": "k"}
    assert bridge.terminate() == 0
    subscriber.start(accounts=[subscriber.account, off])
    assert [account["account"] for account in bridge.control("/control/sync", "POST").json["accounts"]] == ["main"]
    [failed] = bridge.control("/control/sync?account=off", "POST").json["accounts"]
    assert failed["result"] == "failed" and "webhook_url" in failed["error"]
    assert show(subscriber, name="off")["state"] == "off"


# ---- the command line ----

@pytest.fixture
def commands(subscriber):
    """run(command, ...): the CompletedProcess; the control listener is a socket."""
    bridge = subscriber.bridge
    subscriber.configure(control={"address": "unix:control.sock", "token": "a-token-of-enough-letters"})
    return lambda *arguments: bridge.run(*arguments[:1], "-c", bridge.config_path, *arguments[1:])


def test_commands_ask_the_running_bridge(bridge, subscriber, close_server, commands, topic):
    bridge.start()
    planned = commands("sync", "--dry-run")
    assert (planned.returncode, planned.stderr) == (0, "")
    assert "main: would be created" in planned.stdout and "  + lead: created, updated\n" in planned.stdout
    assert close_server.own() == []
    done = commands("sync", "--account", "main")
    [mine] = subscriber.own
    assert (done.returncode, done.stdout.splitlines()[:3]) == (
        0, [f"main: created, {mine.id}, 3 pairs", "  + lead: created, updated", "  + contact: created"])
    assert f"topic {topic}: missing: " in done.stdout, "the way of the events goes on to Kafka"
    assert json.loads(commands("sync", "--json").stdout)["accounts"][0]["result"] == "unchanged"
    sent = commands("send", "--url", f"http://{bridge.address}/webhooks/main")
    assert (sent.returncode, "accepted" in sent.stdout) == (0, True), sent.stderr
    exported = commands("keys", "export", "--account", "main")
    assert (exported.returncode, exported.stdout) == (0, mine.key + "\n")
    sent = commands("send", "--url", f"http://{bridge.address}/webhooks/main")
    assert (sent.returncode, sent.stdout) == (0, '200 {"status":"accepted"}\n'), "signed with the subscription's key"
    close_server.fail_next(401)
    failed = commands("sync")
    assert (failed.returncode, "check api_key" in failed.stderr, "failed" in failed.stdout) == (69, True, True)
    assert commands("sync", "--account", "mian").returncode == 64
    gone = commands("unsubscribe")
    assert (gone.returncode, "main: unsubscribed" in gone.stdout, close_server.own()) == (0, True, [])
    assert commands("keys", "export", "--account", "main").returncode == 69
    keyless = commands("send", "--url", f"http://{bridge.address}/webhooks/main")
    assert keyless.returncode == 78 and "close-bridge sync" in keyless.stderr
    bridge.should_run = True
    assert bridge.terminate() == 0


def test_commands_work_without_a_bridge_and_not_beside_it(bridge, subscriber, close_server, commands):
    done = commands("sync")
    [mine] = subscriber.own
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, f"main: created, {mine.id}, 3 pairs"), done.stderr
    bridge.start()
    wait_until(lambda: bridge.post_signed(close_server.delivery.body(mine, close_server.maker.event("lead", "created")),
                                          key=mine.key).status == 200, 30, "the bridge has the key")
    other = bridge.folder / "other.yaml"
    other.write_text(bridge.config_path.read_text().replace("unix:control.sock", "unix:nowhere.sock"))
    beside = bridge.run("sync", "-c", other)
    assert (beside.returncode, "another close-bridge uses it" in beside.stderr) == (69, True)
    other.write_text(bridge.config_path.read_text().replace("a-token-of-enough-letters", "another-token-of-letters"))
    assert bridge.run("sync", "-c", other).returncode == 77
    assert bridge.terminate() == 0
    assert commands("unsubscribe", "--account", "main").returncode == 0
    assert close_server.own() == []


def test_replicas_get_their_keys_from_one_sync(kafka, make_bridge, subscriber, close_server, topic):
    kafka.create_topics(topic, topic + "-dead")
    bridge = subscriber.bridge
    keys = bridge.folder / "keys"
    keys.touch()
    subscriber.account["signature_keys"] = "${file:" + str(keys) + "}"
    subscriber.configure(journal={"acknowledge": "broker"}, dead_letters={"kafka": {"topic": topic + "-dead"}})
    done = bridge.run("sync", "-c", bridge.config_path, "--keys-out", keys)
    assert done.returncode == 0, done.stderr
    [mine] = subscriber.own
    assert (keys.read_text(), keys.stat().st_mode & 0o777) == (mine.key + "\n", 0o600)
    bridge.start()
    bridge.wait_up("kafka")
    subscriber.check_key_is_known()
    for method, path in (("POST", "/control/sync"), ("DELETE", "/control/subscriptions")):
        assert bridge.control(path, method).status == 409
    assert show(subscriber)["state"] == "active"
    again = bridge.run("sync", "-c", bridge.config_path, "--keys-out", keys)
    assert (again.returncode, again.stdout) == (0, f"main: unchanged, {mine.id}, 3 pairs\n")
    assert keys.read_text() == mine.key + "\n"
    elsewhere = bridge.run("sync", "-c", bridge.config_path, "--keys-out", "/nonexistent/keys")
    assert (elsewhere.returncode, "/nonexistent/keys" in elsewhere.stderr) == (73, True)
