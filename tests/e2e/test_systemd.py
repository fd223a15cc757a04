"""Under systemd: its unit, what it is told, and what the unit leaves the bridge (RELIABILITY S12, S17, S18)."""
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import pytest

from tests.e2e.bridge import BINARY, ROOT, Bridge
from tests.e2e.confined import NOBODY, read_unit
from tests.e2e.subscriber import Subscriber
from tests.peers.process import free_port, wait_until

UNIT = ROOT / "packaging" / "close-bridge.service"


def to_kafka(topic):
    return [{"object_type": "*", "kafka": {"topic": topic}}]


# ---- the unit ----

def build_folder():
    folder = BINARY.parents[1]
    assert (folder / "CMakeCache.txt").exists(), f"{BINARY} is not in a build folder"
    return folder


def test_the_unit_is_installed_with_its_program_and_scores_at_most_two(tmp_path):
    subprocess.run(["cmake", "--install", build_folder(), "--prefix", "/usr"], env={**os.environ, "DESTDIR": str(tmp_path)}, check=True,
                   capture_output=True)
    installed = {str(path.relative_to(tmp_path)): path for path in tmp_path.rglob("*") if path.is_file()}
    assert set(installed) == {"usr/bin/close-bridge", "usr/lib/systemd/system/close-bridge.service",
                              "usr/share/doc/close-bridge/close-bridge.yaml"}
    assert subprocess.run([installed["usr/bin/close-bridge"], "version"], capture_output=True).returncode == 0
    unit = tmp_path / "close-bridge.service"
    text = installed["usr/lib/systemd/system/close-bridge.service"].read_text()
    unit.write_text(text.replace("ExecStart=close-bridge ", f"ExecStart={installed['usr/bin/close-bridge']} "))
    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, "")
    scored = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=20", unit], capture_output=True, text=True)
    assert scored.returncode == 0, scored.stdout + scored.stderr
    assert float(re.search(r"exposure level for \S+: ([\d.]+)", scored.stdout)[1]) <= 2.0


# ---- what systemd is told ----

class Manager:
    """The socket of a service manager."""

    def __init__(self, folder):
        self.path = str(folder / "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.env = {"NOTIFY_SOCKET": self.path}

    def next(self, timeout=30):
        """{name: value} of the next message; fails when none comes."""
        self.socket.settimeout(timeout)
        return dict(line.split("=", 1) for line in self.socket.recv(4096).decode().splitlines())

    def after(self, name, timeout=30):
        """The next message that has a line of this name."""
        while name not in (message := self.next(timeout)):
            assert message == {"WATCHDOG": "1"}, message
        return message

    def is_silent(self):
        self.socket.settimeout(0)
        try:
            return not self.socket.recv(4096)
        except BlockingIOError:
            return True


@pytest.fixture
def manager(tmp_path):
    made = Manager(tmp_path)
    yield made
    made.socket.close()


@pytest.fixture
def reload_as_the_unit(tmp_path):
    """Carries out ExecReload on a system that has a shell and nothing else: `kill` is a program of its own on few."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sh").symlink_to(shutil.which("sh"))
    [line] = read_unit(UNIT)["ExecReload"]
    command = [word.replace("$$", "$") for word in shlex.split(line)]

    def do(pid):
        path = str(tmp_path / "bin")
        subprocess.run([shutil.which(command[0], path=path), *command[1:]], env={"PATH": path, "MAINPID": str(pid)}, check=True)
    return do


def test_a_life_is_told_to_the_service_manager(make_bridge, kafka, topic, manager, reload_as_the_unit):
    bridge = make_bridge(kafka)
    bridge.env = {**manager.env, "WATCHDOG_USEC": "4000000"}
    port = free_port()
    bridge.configure(topic_map=to_kafka(topic), listen={"address": f"127.0.0.1:{port}"})
    bridge.launch()
    assert manager.after("READY")["READY"] == "1"
    assert bridge.request("GET", "/", address=f"127.0.0.1:{port}").status == 404, "it serves already"
    bridge.attach()
    assert bridge.post_signed(bridge.event()).status == 200
    since = time.monotonic()
    for _ in range(4):
        assert manager.next(timeout=4) == {"WATCHDOG": "1"}
    assert time.monotonic() - since < 8, "twice the interval"
    # A reload, a bad one, and one that is asked for over HTTP.
    for text, how, ends in ((None, "unit", "Webhooks are accepted"), ("nonsense: 1", "unit", "the log says why"),
                            ("nonsense: 1", "http", "the log says why"), (None, "http", "Webhooks are accepted")):
        bridge.configure()
        if text:
            bridge.config_path.write_text(text)
        before = time.clock_gettime(time.CLOCK_MONOTONIC)
        reload_as_the_unit(bridge.process.pid) if how == "unit" else bridge.control("/control/reload", method="POST")
        began = manager.after("RELOADING")
        assert before <= int(began["MONOTONIC_USEC"]) / 1e6 <= time.clock_gettime(time.CLOCK_MONOTONIC)
        ended = manager.after("READY")
        assert ended["READY"] == "1" and ended["STATUS"].endswith(ends), ended
    assert bridge.terminate() == 0
    assert manager.after("STOPPING")["STOPPING"] == "1"
    assert manager.is_silent(), "nothing is said behind STOPPING=1"


def test_who_cannot_serve_is_never_ready(make_bridge, kafka, topic, manager):
    first = make_bridge(kafka).start(topic_map=to_kafka(topic))
    second = make_bridge(kafka, name="second")
    second.env = manager.env
    second.configure(topic_map=to_kafka(topic), listen={"address": first.address})
    second.launch()
    wait_until(lambda: not second.process.is_running, 15, "the second instance ends")
    assert "STOPPING" in manager.next()
    assert manager.is_silent()


# ---- what the unit leaves it ----

@pytest.fixture
def confined(kafka, mosquitto, close_server):
    """A bridge whose program is in a folder of the user it will run as, with the credentials that systemd would lay there."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="close-bridge-", dir="/tmp"))
    folder.chmod(0o755)
    bridge = Bridge(folder / "bridge", kafka, mosquitto.start())
    bridge.binary = folder / "close-bridge"
    shutil.copy(BINARY, bridge.binary)
    bridge.prefix = [sys.executable, ROOT / "tests/e2e/confined.py", UNIT]
    state, credentials = folder / "state", folder / "credentials"
    state.mkdir(mode=0o700)
    credentials.mkdir(mode=0o500)
    (credentials / "close-api-key").write_text(close_server.api_key + "\n")
    (credentials / "close-api-key").chmod(0o400)
    if os.geteuid() == 0:
        for path in (state, credentials, credentials / "close-api-key"):
            os.chown(path, NOBODY, NOBODY)
    bridge.config["journal"]["path"] = str(state / "journal")
    # A leak checker traces its process, which the unit forbids.
    bridge.env = {"CREDENTIALS_DIRECTORY": str(credentials), "ASAN_OPTIONS": "detect_leaks=0:exitcode=99"}
    yield bridge
    try:
        bridge.finish()
    finally:
        print(bridge.log()[-8000:])
        shutil.rmtree(folder)


def test_it_runs_with_what_the_unit_leaves_it(confined, kafka, mosquitto, close_server, topic):
    subscriber = Subscriber(confined, close_server, topic, api_key="${credential:close-api-key}")
    tap = mosquitto.subscribe(topic + "/#")
    subscriber.topic_map[0]["mqtt"] = {"topic": topic + "/{action}", "qos": 1}
    subscriber.start()
    subscriber.wait_synced()
    status = pathlib.Path(f"/proc/{confined.process.pid}/status").read_text()
    for name, value in {"Seccomp": "2", "NoNewPrivs": "1", "CapEff": "0" * 16, "CapPrm": "0" * 16}.items():
        assert re.search(rf"^{name}:\s+{value}$", status, re.M), status
    assert re.search(r"^Uid:\s+([1-9]\d*)\s+\1\s+\1\s+\1$", status, re.M), status
    assert "process.is_root" not in confined.log()
    events = [close_server.emit(object_type="lead", action="created") for _ in range(3)]
    close_server.delivery.wait_idle()
    # Killed, the next start reads the journal in a child of its own.
    confined.kill()
    confined.start()
    confined.process.signal(signal.SIGHUP)
    wait_until(lambda: "event=config.reloaded" in confined.log_since_start(), 20, confined.log)
    events.append(close_server.emit(object_type="lead", action="created"))
    close_server.delivery.wait_idle()
    wanted = {event["id"] for event in events}
    with kafka.reader(topic) as reader:
        reader.until(lambda records: wanted <= {record.event_id for record in records}, 30)
    tap.until(lambda messages: wanted <= {message.event_id for message in messages})
    assert confined.terminate() == 0


def test_root_is_told_that_it_is_not_needed(bridge, topic):
    bridge.start(topic_map=to_kafka(topic))
    assert ("event=process.is_root" in bridge.log()) == (os.geteuid() == 0)


def test_what_the_unit_sets_is_what_the_requirement_names():
    unit = read_unit(UNIT)
    wanted = {
        "Type": "notify", "DynamicUser": "yes", "StateDirectory": "close-bridge", "NoNewPrivileges": "yes", "ProtectSystem": "strict",
        "ProtectHome": "yes", "PrivateTmp": "yes", "PrivateDevices": "yes", "ProtectKernelTunables": "yes", "ProtectKernelModules": "yes",
        "ProtectKernelLogs": "yes", "ProtectControlGroups": "yes", "ProtectClock": "yes", "ProtectHostname": "yes",
        "ProtectProc": "invisible", "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6", "RestrictNamespaces": "yes",
        "RestrictRealtime": "yes", "RestrictSUIDSGID": "yes", "LockPersonality": "yes", "MemoryDenyWriteExecute": "yes",
        "SystemCallArchitectures": "native", "CapabilityBoundingSet": "", "UMask": "0077", "LimitCORE": "0", "Restart": "always",
    }
    assert {name: unit[name] for name in wanted} == {name: [value] for name, value in wanted.items()}
    assert unit["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]
    assert {"LimitNOFILE", "MemoryMax", "TasksMax", "WatchdogSec"} <= set(unit)
