import itertools
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import pytest  # noqa: E402

from tests.e2e.bridge import Bridge  # noqa: E402
from tests.peers.kafka import Kafka  # noqa: E402
from tests.peers.mosquitto import Mosquitto  # noqa: E402

NUMBERS = itertools.count(1)
PAYLOADS = pathlib.Path(__file__).resolve().parents[1] / "data" / "payloads"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    setattr(item, "report_" + call.when, outcome.get_result())


@pytest.fixture(scope="session")
def kafka(tmp_path_factory):
    """One real broker for all tests that do not stop it; every test has topics of its own."""
    broker = Kafka(tmp_path_factory.mktemp("kafka"))
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def own_kafka(tmp_path):
    """A broker that the test may stop and start. It is not started."""
    broker = Kafka(tmp_path / "kafka")
    yield broker
    broker.kill()


@pytest.fixture
def mosquitto(tmp_path):
    broker = Mosquitto(tmp_path / "mosquitto").start()
    yield broker
    broker.close()


@pytest.fixture
def own_mosquitto(tmp_path):
    """A broker that the test starts itself."""
    broker = Mosquitto(tmp_path / "mosquitto")
    yield broker
    broker.close()


@pytest.fixture
def make_bridge(tmp_path, request):
    """Makes bridges that are stopped and examined at the end of the test."""
    bridges = []

    def make(kafka=None, mosquitto=None, folder="bridge"):
        path = tmp_path / folder
        path.mkdir(exist_ok=True)
        bridge = Bridge(path, kafka, mosquitto, prefix=f"t{next(NUMBERS)}.")
        bridges.append(bridge)
        return bridge

    yield make
    failures = []
    for bridge in bridges:
        try:
            bridge.finish()
        except AssertionError as error:
            failures.append(str(error))
        finally:
            bridge.kill()
        if getattr(request.node, "report_call", None) and request.node.report_call.failed:
            print(f"---- {bridge.process.log_path}\n{bridge.log()[-8000:]}")
    assert not failures, "\n".join(failures)


@pytest.fixture
def real_payload():
    """A delivery of Close as a gateway logged it, byte for byte."""
    return PAYLOADS.joinpath("real-lead.created-2025-09-04.wire.json").read_bytes()
