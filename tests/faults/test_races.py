"""The crash, outage, broker and shutdown rows under ThreadSanitizer (RELIABILITY F29): any report fails the test."""
import time

import pytest

from tests.e2e.bridge import ROOT
from tests.faults.chaos import WINDOW, Chaos
from tests.faults.test_disk import is_accepting
from tests.peers.process import wait_until

pytestmark = pytest.mark.row("F29")


def test_crashes_outages_reloads_and_stops_race_with_nothing(kafka, make_bridge, make_sender, ledger, topic, dice, tmp_path, tier, figures):
    kafka.create_topics(topic, partitions=4)
    bridge = make_bridge(kafka)
    bridge.binary = ROOT / "build/tsan/bridge/close-bridge"
    assert bridge.binary.exists(), "scripts/faults builds it: cmake --build --preset tsan"
    chaos = Chaos(bridge, kafka, topic, tmp_path, dice, has_shim=False).start()
    sender = make_sender(bridge, rate=150, lines=6)
    steps = ["kill -9", "kafka silent", "mqtt cut", "mqtt refuses", "mqtt silent", "reload", "SIGTERM"] * tier.pick(1, 20)
    try:
        for step in steps:
            with sender.running():
                time.sleep(dice.uniform(0.3, 0.6))  # somewhere under load
                if step == "reload":
                    assert bridge.reload(journal={"retention": f"{dice.randrange(1, 9)}s"}).status == 200
                else:
                    chaos.begin(step)
                time.sleep(0.4)
                chaos.calm()
            chaos.revive()
            wait_until(lambda: is_accepting(bridge), 30, lambda: f"events are accepted after {step}")
            sender.redeliver()
        chaos.settle()
        verdict = chaos.judge(ledger, duplicates=len(steps) * WINDOW)
        figures(steps=len(steps), accepted=verdict.accepted, lost=0, reports=0)
    finally:
        chaos.close()
