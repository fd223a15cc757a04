"""File descriptors and memory run out (RELIABILITY F14, F9)."""
import contextlib
import pathlib
import subprocess
import sys
import time

import pytest

from tests.faults.measure import cpu_seconds, descriptors
from tests.faults.test_senders import settle_and_judge
from tests.peers.process import wait_until

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
    bridge.start(topic_map=[{"object_type": "*", "kafka": {"topic": topic}, "mqtt": {"topic": topic, "qos": 1}}])
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
