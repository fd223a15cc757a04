"""Fixtures of the fault tests: those of tests/e2e, a ledger, a sender that writes to it, folders of special file systems."""
import ctypes
import itertools
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import zlib

import pytest

from tests.e2e.conftest import close_server, kafka, kafka_session, make_bridge, make_close_server, mosquitto, own_kafka  # noqa: F401
from tests.e2e.conftest import pytest_runtest_makereport  # noqa: F401
from tests.faults.checker import Ledger
from tests.faults.readers import Collector, Tap
from tests.faults.sender import Sender
from tests.peers.mock_kafka import MockKafka


@pytest.fixture
def topic(request):
    """A name of this test, for its topics on the broker that all tests share."""
    name = request.node.name
    return "t-" + re.sub(r"[^A-Za-z0-9-]+", "-", name)[:40] + f"-{zlib.crc32(name.encode()):08x}"


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger.jsonl")


@pytest.fixture
def make_sender(ledger, dice):
    """make_sender(bridge, rate=2000): not started."""
    made = []

    def make(bridge, **settings):
        made.append(Sender(bridge, ledger, dice, **settings))
        return made[-1]

    yield make
    for sender in made:
        sender.stop()
        sender.close()


@pytest.fixture
def in_memory():
    """An empty folder that costs no disk."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="faults-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


CLONE_NEWNS = 0x20000
HOW_TO_MOUNT = "the test has to run as root and to be let mount tmpfs and loop devices; in a container, for example with " \
               "`docker run --privileged --volume /dev:/dev`"


def become_alone():
    """Mounts of this process and its children are theirs alone from now on, and go with the last of them, however that ends.

    In a chroot, whose root is no mount point, that is so unless the mount it lies in is shared: then Mounts.close() has to do."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(CLONE_NEWNS) == 0, f"a mount namespace: {os.strerror(ctypes.get_errno())}: {HOW_TO_MOUNT}"
    done = subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, text=True)
    assert done.returncode == 0 or "not mount point" in done.stderr, f"mount --make-rprivate /: {done.stderr.strip()}: {HOW_TO_MOUNT}"


class Mounts:
    """File systems of the test's own, for as long as it runs."""

    def __init__(self, folder):
        self.folder = folder
        self.points = []
        self.numbers = itertools.count()

    def _mount(self, *arguments):
        if not self.points:
            become_alone()
        point = self.folder / f"mount-{next(self.numbers)}"
        point.mkdir()
        done = subprocess.run(["mount", *map(str, arguments), str(point)], capture_output=True, text=True)
        assert done.returncode == 0, f"mount {' '.join(map(str, arguments))}: {done.stderr.strip()}: {HOW_TO_MOUNT}"
        self.points.append(point)
        return point

    def tmpfs(self, size):
        return self._mount("-t", "tmpfs", "-o", f"size={size},mode=0700", "none")

    def image(self, path, read_only=False):
        return self._mount("-o", "loop,ro" if read_only else "loop", path)

    def make_ext4(self, size):
        """(path of the image, where it is mounted)"""
        path = self.folder / f"image-{next(self.numbers)}"
        with open(path, "wb") as file:
            file.truncate(size)
        subprocess.run(["mkfs.ext4", "-q", "-F", path], check=True)
        return path, self.image(path)

    def unmount(self, point):
        subprocess.run(["umount", str(point)], check=True, capture_output=True)
        self.points.remove(point)

    def close(self):
        for point in self.points:
            subprocess.run(["umount", "-l", str(point)], check=False)


@pytest.fixture
def mounts(tmp_path):
    made = Mounts(tmp_path)
    yield made
    made.close()


@pytest.fixture
def make_tap(tmp_path):
    """make_tap(mosquitto): it has to be subscribed before what it is to see is sent."""
    made = []

    def make(broker):
        made.append(Tap(broker, tmp_path))
        return made[-1]

    yield make
    for tap in made:
        tap.close()


@pytest.fixture
def mock_kafka(topic):
    """A Kafka with one topic whose answers can be chosen."""
    cluster = MockKafka(topic)
    yield cluster
    cluster.kill()


@pytest.fixture
def collect():
    """collect(kafka, topic): a Collector that has begun."""
    made = []

    def make(broker, *topics):
        made.append(Collector(broker, topics))
        return made[-1]

    yield make
    for collector in made:
        collector.close()
