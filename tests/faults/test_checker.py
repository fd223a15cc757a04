"""The judge sees what it is there to see: a fault test that passes means something."""
import itertools

import pytest

from tests.faults.checker import DEAD, DELIVERED, EVERY, PENDING, Ledger, Out, Sent, digest, judge

pytestmark = pytest.mark.row("checker")


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger.jsonl")


@pytest.fixture
def clock():
    return itertools.count(1)


@pytest.fixture
def send(ledger, clock):
    def send(one, key="lead_1", event=None, status=200, word="accepted", signed=True):
        event = event or b"event " + one.encode()
        body = b"body of " + event
        ledger.sent(Sent(one, key, "main", digest(body), digest(event), signed, status, word, next(clock), next(clock)))
    return send


@pytest.fixture
def deliver(ledger):
    def deliver(one, publisher="kafka", topic="t", key="lead_1", value=None, how=DELIVERED, time=0.0):
        ledger.out(Out(how, publisher, topic, one, key, digest(value or b"event " + one.encode()), time))
    return deliver


def test_all_is_well_when_everything_came_once_in_order(ledger, send, deliver):
    for one in ("a", "b", "c"):
        send(one)
        deliver(one)
        deliver(one, "mqtt", key=None, value=b"body of event " + one.encode())
    verdict = judge(ledger, "kafka", "mqtt").check()
    assert (verdict.accepted, verdict.delivered) == (3, {"kafka": 3, "mqtt": 3})


def test_what_came_to_one_publisher_only_is_lost_for_the_other(ledger, send, deliver):
    send("a")
    deliver("a")
    assert judge(ledger, "kafka").check().lost == {"kafka": []}
    verdict = judge(ledger, "kafka", "mqtt")
    assert verdict.lost == {"kafka": [], "mqtt": ["a"]}
    with pytest.raises(AssertionError, match="^lost: "):
        verdict.check(duplicates=1000)


@pytest.mark.parametrize("how", [DEAD, PENDING])
def test_what_is_dead_or_pending_is_not_lost_for_that_publisher(ledger, send, deliver, how):
    send("a")
    deliver("a", "kafka", how=how)
    assert judge(ledger, "kafka", "mqtt").lost == {"kafka": [], "mqtt": ["a"]}


def test_what_was_not_promised_may_be_missing_or_there(ledger, send, deliver):
    for status, word in ((503, "unavailable"), (None, None), (200, "ignored"), (401, "unauthorized")):
        send("a", status=status, word=word)
    judge(ledger, "kafka").check()
    deliver("a")
    judge(ledger, "kafka").check()


def test_a_redelivery_that_was_called_a_duplicate_is_a_promise(ledger, send):
    send("a", status=None, word=None)
    send("a", word="duplicate")
    assert judge(ledger, "kafka").lost == {"kafka": ["a"]}


def test_a_signed_body_that_is_no_event_has_to_be_a_dead_letter(ledger, send, deliver):
    send("x", event=b"{", word="dead_lettered")
    assert judge(ledger, "kafka").lost == {"kafka": ["x"]}
    deliver("", EVERY, how=DEAD, value=b"body of {")
    judge(ledger, "kafka").check()
    deliver("", EVERY, how=DEAD, value=b"never sent")
    assert len(judge(ledger, "kafka").invented) == 1


def test_copies_are_counted_by_publisher_topic_and_version(ledger, send, deliver):
    send("a")
    send("a", event=b"other bytes", word="accepted")
    deliver("a")
    assert judge(ledger, "kafka").lost == {"kafka": ["a"]}, "the other version is missing"
    deliver("a", value=b"other bytes")
    deliver("a", topic="u")
    judge(ledger, "kafka").check()
    deliver("a", time=5.0)
    deliver("a", topic="u", time=7.0)
    deliver("a", topic="u", time=8.0)
    verdict = judge(ledger, "kafka")
    assert verdict.duplicated == {"kafka": 3}
    assert verdict.most_duplicates_between([6.0, 9.0]) == {"kafka": 2}
    verdict.check(duplicates=3)
    with pytest.raises(AssertionError, match="^duplicated: "):
        verdict.check(duplicates=2)


@pytest.mark.parametrize("change", [{"one": "b"}, {"value": b"event A"}, {"key": "lead_2"}])
def test_an_unknown_id_other_bytes_and_another_key_are_invented(ledger, send, deliver, change):
    send("a")
    deliver("a")
    deliver(**{"one": "a", "topic": "u", **change})
    verdict = judge(ledger, "kafka")
    assert len(verdict.invented) == 1
    with pytest.raises(AssertionError, match="^invented: "):
        verdict.check(duplicates=1000)


def test_what_was_sent_without_a_valid_signature_only_is_invented(ledger, send, deliver):
    send("a", signed=False, status=401, word=None)
    deliver("a")
    assert len(judge(ledger, "kafka").invented) == 1
    send("a")
    judge(ledger, "kafka").check()


def test_an_event_that_came_out_after_a_later_one_of_its_key_is_reordered(ledger, send, deliver):
    for one in ("a", "b", "c"):
        send(one)
    send("other", key="lead_2")
    for one in ("a", "c", "b"):
        deliver(one)
    deliver("other", key="lead_2")
    verdict = judge(ledger, "kafka")
    assert verdict.reordered == [("kafka", "t", "lead_1", "b", "c")]
    with pytest.raises(AssertionError, match="^reordered: "):
        verdict.check()


def test_copies_do_not_count_as_disorder_nor_do_requests_at_the_same_time(ledger, send, deliver):
    send("a", status=None, word=None)  # no answer: it may have been stored before or after b
    send("b")
    send("a", word="duplicate")
    for one in ("b", "a", "b"):
        deliver(one)
    judge(ledger, "kafka").check(duplicates=1)


def test_the_ledger_is_kept_in_its_file(ledger, send, deliver, tmp_path):
    send("a")
    deliver("a")
    ledger.file.flush()
    assert len((tmp_path / "ledger.jsonl").read_text().splitlines()) == 2
