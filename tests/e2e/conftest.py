import hashlib
import pathlib
import re
import threading

import pytest

from tests.e2e.bridge import BINARY, KEY, Bridge
from tests.e2e.close_client import Client, Receiver
from tests.peers.close_server import CloseServer
from tests.peers.kafka import Kafka
from tests.peers.mosquitto import Mosquitto

PAYLOADS = pathlib.Path(__file__).resolve().parents[1] / "data" / "payloads"


def pytest_configure(config):
    if not BINARY.exists():
        raise pytest.UsageError(f"{BINARY} does not exist: build it first, or name another in CLOSE_BRIDGE_BINARY")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    setattr(item, "report_" + call.when, outcome.get_result())


@pytest.fixture(scope="session")
def kafka_session(tmp_path_factory):
    broker = Kafka(tmp_path_factory.mktemp("kafka")).start()
    yield broker
    broker.kill()


@pytest.fixture
def kafka(kafka_session):
    """One real broker for all tests; a test keeps to topics that begin with `topic`."""
    kafka_session.process.check()
    return kafka_session


@pytest.fixture
def topic(request):
    """A name of this test alone, for its topics on the broker that all tests share: files may have tests of one name."""
    which = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:8]
    return "t-" + re.sub(r"[^A-Za-z0-9-]+", "-", request.node.name)[:72] + "-" + which


@pytest.fixture
def own_kafka(tmp_path):
    """Makes brokers that the test may stop: own_kafka(auto_create_topics_enable="false"). Not started."""
    made = []

    def make(**properties):
        made.append(Kafka(tmp_path / f"kafka-{len(made)}", **properties))
        return made[-1]

    yield make
    for broker in made:
        broker.kill()


@pytest.fixture
def mosquitto(tmp_path):
    """Not started."""
    broker = Mosquitto(tmp_path / "mosquitto")
    yield broker
    broker.close()


@pytest.fixture
def make_bridge(request, tmp_path):
    """make_bridge(kafka, mosquitto, name="bridge"): a Bridge, not started."""
    made = []

    def make(kafka=None, mosquitto=None, name="bridge"):
        made.append(Bridge(tmp_path / name, kafka, mosquitto))
        return made[-1]

    yield make
    call = getattr(request.node, "report_call", None)
    try:
        for bridge in made:
            bridge.finish()
    except BaseException:
        call = None
        raise
    finally:
        for bridge in made:
            if bridge.process:
                bridge.process.kill()
            if call is None or call.failed:
                print(f"---- {bridge.config_path}\n{bridge.config_path.read_text() if bridge.config_path.exists() else ''}")
                print(f"---- {bridge.log_path}\n{bridge.log()[-8000:]}")


@pytest.fixture
def bridge(make_bridge, kafka):
    """A bridge on the shared Kafka, not started."""
    return make_bridge(kafka)


@pytest.fixture
def payload():
    """payload(name): the bytes of a file of tests/data/payloads."""
    return lambda name: (PAYLOADS / name).read_bytes()


@pytest.fixture
def make_close_server():
    """make_close_server(**behaviour): a simulator of Close with its REST API, running."""
    made = []

    def make(**behaviour):
        made.append(CloseServer(**behaviour))
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def close_server(make_close_server):
    """One with the behaviour that was recorded or is documented; a test changes it through close_server.behaviour."""
    return make_close_server()


@pytest.fixture
def ask(close_server):
    """ask(method, path, body=None, headers=None): (status, headers, JSON) of close_server, for an admin."""
    return Client(close_server)


@pytest.fixture
def receiver():
    """A receiver of webhooks that verifies signatures with KEY."""
    server = Receiver(lambda subscription: KEY)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def hook(close_server, receiver):
    """The receiver to which HOOK leads, with the keys that close_server gave."""
    receiver.key_of = lambda subscription: close_server.subscriptions.by_id[subscription].key
    close_server.routes["https://hooks.example.com"] = f"http://127.0.0.1:{receiver.server_port}"
    return receiver
