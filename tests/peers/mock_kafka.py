"""librdkafka's mock cluster in a process of its own: a Kafka whose answers can be chosen. See mock_kafka.c.

It forgets what lies behind 5 MiB of a partition: it has to be read while it is written to.
"""
import os
import pathlib
import subprocess

from tests.peers.kafka import Reader

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get("MOCK_KAFKA", ROOT / "build/debug/tests/peers/mock-kafka"))
PRODUCE = 0  # Kafka's protocol guide, "Api Keys"
METADATA = 3
INIT_PRODUCER_ID = 22


class MockKafka:
    def __init__(self, *topics, partitions=4):
        named = [word for topic in topics for word in ("--topic", topic)]
        self.child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", PROGRAM, "--control", "--partitions",
                                       str(partitions), *named], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.bootstrap = self.child.stdout.readline().strip().partition("=")[2]
        assert self.bootstrap, "the mock cluster does not start"

    def order(self, *words):
        self.child.stdin.write(" ".join(map(str, words)) + "\n")
        self.child.stdin.flush()
        assert self.child.stdout.readline() == "ok\n", f"the mock cluster does not obey {words}"

    def fail(self, code, count=1, api=PRODUCE):
        """The next requests of this kind fail with a code of Kafka or librdkafka (-195: the connection breaks)."""
        self.order("errors", api, code, count)

    def reader(self, *topics):
        return Reader(self.bootstrap, topics)

    def kill(self):
        self.child.kill()
        self.child.wait()
        self.child.stdin.close()
        self.child.stdout.close()
