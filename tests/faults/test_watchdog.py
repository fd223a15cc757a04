"""A service manager ends a bridge whose disk hangs, and not one whose disk is slow (RELIABILITY F7, S18)."""
import socket
import threading
import time

import pytest

from tests.e2e.test_systemd import Manager
from tests.faults.test_disk import Nowhere, start_on_failing_disk
from tests.peers.process import wait_until

INTERVAL = 4.0  # seconds, of which a commit may take half


def longest_silence(manager, seconds):
    """Between two heartbeats, or a heartbeat and the end."""
    end, last, longest = time.monotonic() + seconds, time.monotonic(), 0.0
    while (left := end - time.monotonic()) > 0:
        try:
            assert manager.next(left) == {"WATCHDOG": "1"}
        except socket.timeout:
            break
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    return max(longest, time.monotonic() - last)


@pytest.fixture
def post(make_bridge):
    """post(bridge): an event, by a thread that waits for its answer."""
    threads = []

    def start(bridge):
        threads.append(threading.Thread(target=bridge.post_signed, args=(bridge.event(),), kwargs={"timeout": 30}))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join()


@pytest.mark.row("F7")
def test_the_watchdog_is_fed_while_commits_end_and_not_while_one_hangs(make_bridge, tmp_path, post, figures):
    manager = Manager(tmp_path)
    bridge = make_bridge(Nowhere)
    shim = start_on_failing_disk(bridge, tmp_path, env={**manager.env, "WATCHDOG_USEC": str(int(INTERVAL * 1e6))})
    manager.after("READY")
    shim.delay_syncs(0.6)  # twice in a commit
    for _ in range(3):
        post(bridge)
        slow = longest_silence(manager, 1.5)
        assert slow < INTERVAL / 2, "a slow disk is no reason to end the bridge"
    wait_until(lambda: bridge.metrics().value("webhooks_total", result="accepted") == 3, 10, "the slow commits ended")
    shim.delay_syncs(5)
    post(bridge)
    hanging = longest_silence(manager, 12)
    assert hanging > INTERVAL, f"systemd would have heard of it for the last time {hanging} s before it was told again"
    assert "event=supervisor.no_heartbeat" in bridge.log()
    shim.delay_syncs(0)
    wait_until(lambda: bridge.metrics().value("webhooks_total", result="accepted") == 4, 20, "the disk is back")
    assert longest_silence(manager, INTERVAL) < INTERVAL / 2, "and it is fed again"
    manager.socket.close()
    figures(silent_while_hanging_s=round(hanging, 1), silent_while_slow_s=round(slow, 1))
