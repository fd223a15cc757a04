"""File descriptors and memory run out (RELIABILITY F14, F9)."""
import collections
import contextlib
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.faults.journal import Shim
from tests.faults.measure import cpu_seconds, descriptors
from tests.faults.test_senders import settle_and_judge
from tests.peers.process import Gone, wait_until

BACK_WITHIN = 20  # seconds


@contextlib.contextmanager
def hoard(address, count):
    """So many connections that do nothing."""
    child = subprocess.Popen([sys.executable, pathlib.Path(__file__).with_name("hoard.py"), address, str(count)],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert int(child.stdout.readline()) > 0
        yield
    finally:
        child.kill()
        child.communicate()


@pytest.mark.row("F14")
@pytest.mark.parametrize("limit", [256, 1100, 2048])
def test_connections_cannot_take_the_descriptors_that_brokers_and_the_journal_need(kafka, mosquitto, make_bridge, make_sender, ledger, topic,
                                                                                  limit, figures):
    subscriber = mosquitto.start().subscribe(topic)
    bridge = make_bridge(kafka, mosquitto)
    bridge.prefix = ["prlimit", f"--nofile={limit}:{limit}", "--"]
    bridge.start(listen={"max_connections_per_address": 0},
                 topic_map=[{"object_type": "*", "kafka": {"topic": topic}, "mqtt": {"topic": topic, "qos": 1}}])
    bridge.wait_up("kafka")
    bridge.wait_up("mqtt")
    sender = make_sender(bridge, rate=100, lines=4)
    with sender.running():
        wait_until(lambda: sender.accepted > 20, 10, "honest events flow")
        with hoard(bridge.address, limit + 50):
            cpu, start = cpu_seconds(bridge.process.pid), time.monotonic()
            mosquitto.kill()
            bridge.wait_up("mqtt", False)
            mosquitto.start()
            subscriber.wait_subscribed()
            bridge.wait_up("mqtt", timeout=BACK_WITHIN)
            accepted = sender.accepted
            wait_until(lambda: sender.accepted > accepted + 300, 20, "those that are connected are served")
            used = (cpu_seconds(bridge.process.pid) - cpu) / (time.monotonic() - start)
            open_now = descriptors(bridge.process.pid)
    sender.close()
    accepted = sender.accepted
    with sender.running():
        wait_until(lambda: sender.accepted > accepted + 20, 20, "new connections are taken afterwards")
    assert used < 0.3, f"{used} processors used: something spins"
    settle_and_judge(bridge, kafka, topic, ledger)
    figures(**{f"of_{limit}_descriptors_used": open_now, "processors_used": round(used, 2)})


def start_without_memory(bridge, folder):
    (folder / "watched").mkdir()
    shim = Shim(folder, folder / "watched", also=["malloc"])
    bridge.env = shim.env
    bridge.may_abort = True  # librdkafka and h2o end the process when they get no memory
    return shim


def how_it_ended(bridge):
    code = bridge.process.child.wait(20)
    return signal.Signals(-code).name if code < 0 else f"exit {code}"


@pytest.mark.row("F9")
def test_without_memory_it_refuses_or_ends_and_nothing_that_was_answered_is_lost(kafka, make_bridge, make_sender, ledger, topic, dice, tier,
                                                                                tmp_path, figures):
    bridge = make_bridge(kafka)
    shim = start_without_memory(bridge, tmp_path)
    bridge.start(topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    sender = make_sender(bridge, rate=400, lines=8)
    positions = dice.sample(range(1, 501), 60) if not tier.is_release else range(1, 501)
    ends = collections.Counter()
    for nth in positions:
        for_ever = dice.random() < 0.2
        with sender.running():
            shim.fail_malloc(nth, for_ever)
            wait_until(lambda: shim.control.malloc_fired or not bridge.process.is_running, 20, "an allocation fails")
            time.sleep(0.05)  # what is hurt may fall a little later
            shim.fail_malloc(0)
        try:
            bridge.process.check()
            assert bridge.control("/healthz").status == 200
            ends["goes on"] += 1
        except (Gone, OSError):
            ends[how_it_ended(bridge)] += 1
            bridge.should_run = False
            bridge.start()
        sender.redeliver()
    assert set(sender.statuses) <= {200, 503, None}, sender.statuses
    verdict = settle_and_judge(bridge, kafka, topic, ledger, duplicates=4000 * len(positions))
    figures(allocations_failed=len(positions), ends=dict(ends), accepted=verdict.accepted, lost=0, duplicates=verdict.duplicated["kafka"])
    assert set(ends) <= {"goes on", "SIGABRT"}, ends


@pytest.mark.row("F9")
def test_a_start_without_memory_says_so_or_ends_and_the_next_one_works(kafka, make_bridge, ledger, topic, dice, tier, tmp_path, figures):
    bridge = make_bridge(kafka)
    shim = start_without_memory(bridge, tmp_path)
    bridge.start(topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    event = bridge.event()
    assert bridge.post_signed(event).status == 200
    bridge.kill()
    ends, struck, odd = collections.Counter(), 0, {}
    positions = dice.sample(range(1, 2000), 25) if not tier.is_release else range(1, 2000)
    for nth in positions:
        shim.fail_malloc(nth)
        bridge.launch()
        wait_until(lambda: not bridge.process.is_running or "listener=webhook" in bridge.log_since_start(), 20, "it starts or ends")
        struck += shim.control.malloc_fired > 0
        shim.fail_malloc(0)
        if bridge.process.is_running:
            ends["starts"] += 1
            bridge.process.kill()
        else:
            end = how_it_ended(bridge)
            ends[end] += 1
            if end not in ("SIGABRT", "exit 69", "exit 78"):
                odd[nth] = end
    bridge.start()
    assert bridge.post_signed(event).json["status"] == "duplicate"
    figures(starts_without_memory=struck, starts=dict(ends))
    assert struck > 0.7 * len(positions)
    assert not odd, f"by the number of the allocation that failed: {odd}"
