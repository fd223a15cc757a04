"""A disk that fails, fills up or is slow: never a wrong 2xx, and it goes on by itself (RELIABILITY F4-F7)."""
import subprocess
import time

import pytest

from tests.faults.checker import judge
from tests.faults.journal import Journal, Shim
from tests.faults.measure import status
from tests.peers.process import wait_until

MAX_SIZE = 8 << 30     # bytes: the release tier goes on for minutes
RECOVERS_WITHIN = 15  # seconds: the journal tries again every 5 s at the latest
ANSWERS_WITHIN = 12.5  # seconds: the bridge gives an answer after 12


class Nowhere:
    """A Kafka that is not there: everything stays in the journal."""
    bootstrap = "127.0.0.1:1"


def start_on_failing_disk(bridge, folder, env=None):
    """Starts the bridge on a disk that fails on command; returns what commands it."""
    watched = folder / "watched"
    watched.mkdir()
    shim = Shim(folder, watched)
    bridge.env = {**shim.env, **(env or {})}
    bridge.start(journal={"path": str(watched / "journal"), "max_size": str(MAX_SIZE), "retention": "1s"},
                 topic_map=[{"object_type": "*", "kafka": {"topic": "t"}}])
    return shim


@pytest.fixture
def failing(make_bridge, tmp_path):
    """(a bridge on a disk that fails on command, what commands it)"""
    bridge = make_bridge(Nowhere)
    return bridge, start_on_failing_disk(bridge, tmp_path)


def is_accepting(bridge):
    return bridge.readyz().status == 200


def await_recovery(bridge, sender, shim):
    """Events are accepted again, without a restart. Returns how long that took."""
    before, seconds = sender.accepted, time.monotonic()
    wait_until(lambda: sender.accepted > before + 5, RECOVERS_WITHIN, lambda: f"events are accepted again: {bridge.log()[-2000:]}")
    assert shim.fired >= 1
    return time.monotonic() - seconds


def check_journal(bridge, ledger, max_size=MAX_SIZE):
    """After kill -9: everything that was answered 2xx is in the journal, once."""
    bridge.kill()
    journal = Journal(bridge.config["journal"]["path"], max_size)
    assert journal.damaged == 0
    ledger.take_journal(journal, "kafka")
    return judge(ledger, "kafka").check(duplicates=0)


def sweep(bridge, shim, sender, calls, error, positions, for_ever):
    """The nth call fails, for each n in turn, under load. Returns (faults that struck, the slowest recovery)."""
    struck, slowest = 0, 0.0
    for nth in positions:
        shim.arm(*calls, nth=nth, error=error, for_ever=for_ever)
        wait_until(lambda: shim.fired > (3 if for_ever else 0), 20, lambda: f"call {nth} of {calls} is made")
        if for_ever:
            wait_until(lambda: not is_accepting(bridge), 10, "the bridge says that it cannot accept")
        shim.disarm()
        slowest = max(slowest, await_recovery(bridge, sender, shim))
        struck += 1
    return struck, slowest


def fail_syncs(bridge, shim, sender, tier):
    with sender.running():
        struck, slowest = sweep(bridge, shim, sender, ["sync"], "EIO", range(1, tier.pick(51, 501)), for_ever=False)
        struck += sweep(bridge, shim, sender, ["sync"], "ENOSPC", range(1, tier.pick(6, 101)), for_ever=False)[0]
    return struck, slowest


@pytest.mark.row("F4")
def test_no_batch_whose_sync_failed_is_answered_2xx(failing, make_sender, ledger, tier, figures):
    bridge, shim = failing
    sender = make_sender(bridge, rate=800, lines=8, persistent=True)
    struck, slowest = fail_syncs(bridge, shim, sender, tier)
    unavailable = bridge.metrics().value("webhooks_total", result="unavailable")
    verdict = check_journal(bridge, ledger)
    refused = sender.statuses.get(503, 0)
    assert refused >= struck and unavailable == refused
    assert set(sender.statuses) == {200, 503}
    assert shim.control.synced_again == 0, "a sync that failed was tried again on the same descriptor and believed"
    figures(faults=struck, accepted=verdict.accepted, answered_503=refused, lost=0, slowest_recovery_s=round(slowest, 2))


@pytest.mark.row("F4")
def test_a_disk_that_never_syncs_again_is_told_and_recovers_when_it_does(failing, make_sender, ledger, tier, figures):
    bridge, shim = failing
    sender = make_sender(bridge, rate=800, lines=8, persistent=True)
    with sender.running():
        struck, slowest = sweep(bridge, shim, sender, ["sync"], "EIO", range(1, tier.pick(6, 101)), for_ever=True)
        struck += sweep(bridge, shim, sender, ["sync", "dir_sync"], "EIO", range(1, tier.pick(4, 21)), for_ever=True)[0]
    assert shim.control.synced_again == 0
    verdict = check_journal(bridge, ledger)
    figures(dead_disks=struck, accepted_meanwhile=verdict.accepted, slowest_recovery_of_a_dead_disk_s=round(slowest, 2))


@pytest.mark.row("F5")
def test_no_batch_whose_write_failed_is_answered_2xx(failing, make_sender, ledger, tier, figures):
    bridge, shim = failing
    sender = make_sender(bridge, rate=800, lines=8, persistent=True)
    struck, slowest = 0, 0.0
    with sender.running():
        for calls in (["write"], ["meta"]):
            for error in ("EIO", "ENOSPC", "short", "EINTR", "EAGAIN"):
                done = sweep(bridge, shim, sender, calls, error, range(1, tier.pick(6, 61)), for_ever=False)
                struck, slowest = struck + done[0], max(slowest, done[1])
        for calls in (["write", "meta"], ["write", "meta", "sync", "dir_sync", "allocate", "open"]):
            struck += sweep(bridge, shim, sender, calls, "EIO", range(1, tier.pick(4, 31)), for_ever=True)[0]
    assert set(sender.statuses) == {200, 503}
    assert shim.control.synced_again == 0
    verdict = check_journal(bridge, ledger)
    figures(faults=struck, accepted=verdict.accepted, answered_503=sender.statuses[503], lost=0, slowest_recovery_s=round(slowest, 2))


def fill(bridge, sender):
    """Sends until the disk is full, which the bridge says of itself."""
    with sender.running():
        before = sender.statuses.get(503, 0)
        wait_until(lambda: sender.statuses.get(503, 0) > before + 20, 60, "the disk is full")
        wait_until(lambda: bridge.readyz().json.get("reason") == "the disk of the journal is full", 10,
                   lambda: f"the bridge says so: {bridge.readyz().body}, {sender.statuses}")


def is_told_to_wait(bridge):
    event = bridge.event()
    event["data"]["description"] = bridge.maker.id("text", 60000)
    answer = bridge.post_signed(event)
    return answer.status == 503 and int(answer.headers["retry-after"]) > 0


@pytest.mark.row("F6")
def test_a_full_disk_gives_503_and_space_that_comes_is_used_without_a_restart(kafka, make_bridge, make_sender, mounts, ledger, topic,
                                                                             tier, figures):
    cycles = tier.pick(3, 25)
    disk = mounts.tmpfs("8m")
    kafka.create_topics(topic, partitions=4)
    bridge = make_bridge(kafka).start(journal={"path": str(disk / "journal"), "max_size": "64MiB"},
                                      topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    bridge.wait_up("kafka")
    sender = make_sender(bridge, rate=600, lines=8, sizes=(1000, 60000, 8000), persistent=True)
    for cycle in range(cycles):
        kafka.pause()
        try:
            fill(bridge, sender)
            wait_until(lambda: is_told_to_wait(bridge), 10, "503 comes with Retry-After")
            bridge.kill()
            bridge.start()  # also on a full disk
            fill(bridge, sender)
            subprocess.run(["mount", "-o", f"remount,size={10 + 2 * cycle}m", disk], check=True)  # somebody makes room
            wait_until(lambda: is_accepting(bridge), 10, "events are accepted again")
            fill(bridge, sender)
        finally:
            kafka.resume()
        wait_until(lambda: is_accepting(bridge), 30, "what is delivered gives way")  # cursors were written on the full disk
        sender.redeliver()
    wait_until(lambda: bridge.metrics().value("publisher_lag_events", publisher="kafka") == 0, 60, "everything is published")
    assert bridge.log().count("event=journal.trouble") <= 6 * cycles, "said to and fro"
    ledger.take_kafka(kafka.read_all(topic, timeout=300))
    verdict = judge(ledger, "kafka").check(duplicates=4000 * cycles)
    figures(cycles=cycles, accepted=verdict.accepted, answered_503=sender.statuses[503], lost=0,
            duplicates=verdict.duplicated["kafka"])


@pytest.mark.row("F7")
def test_a_slow_disk_makes_batches_larger_and_answers_late_but_in_time(failing, make_sender, ledger, tier, figures):
    bridge, shim = failing
    sender = make_sender(bridge, rate=2000, lines=128, persistent=True)
    with sender.running():
        wait_until(lambda: sender.accepted > 1000, 20, "events are accepted")
        quick, memory = sender.accepted / shim.count("sync"), status(bridge.process.pid, "RssAnon")
        shim.delay_syncs(0.25)  # twice in a commit: for the data and for the meta page
        before, syncs, seconds = sender.accepted, shim.count("sync"), time.monotonic()
        wait_until(lambda: shim.count("sync") >= syncs + 10, 60, "ten commits are made")
        slow, p99 = (sender.accepted - before) / (shim.count("sync") - syncs), sender.p99_ms(since=seconds + 1)
        shim.delay_syncs(0)
    assert set(sender.statuses) == {200}, "a slow disk is no reason to refuse"
    assert slow > 40, f"{slow} events in a commit"
    assert status(bridge.process.pid, "RssAnon") - memory < 32 << 20
    verdict = check_journal(bridge, ledger)
    figures(accepted=verdict.accepted, events_in_a_commit=round(slow), before=round(quick, 1), p99_ms=round(p99), lost=0)


@pytest.mark.row("F7")
def test_a_disk_that_hangs_gets_503_in_time_and_what_it_stored_after_all_is_a_duplicate(failing, make_sender, ledger, figures):
    bridge, shim = failing
    sender = make_sender(bridge, rate=400, lines=32, persistent=True)
    with sender.running():
        wait_until(lambda: sender.accepted > 100, 20, "events are accepted")
        shim.delay_syncs(15)
        wait_until(lambda: sender.statuses.get(503, 0) >= 32, 20, lambda: f"the senders are answered: {sender.statuses}")
        shim.delay_syncs(0)
        before = sender.accepted
        wait_until(lambda: sender.accepted > before + 100, 40, "events are accepted again")
    waits = [sent.ended - sent.began for sent in ledger.sends() if sent.status == 503]
    assert max(waits) < ANSWERS_WITHIN
    sender.redeliver()
    verdict = check_journal(bridge, ledger)
    figures(accepted=verdict.accepted, answered_503=len(waits), longest_answer_s=round(max(waits), 1), lost=0)

