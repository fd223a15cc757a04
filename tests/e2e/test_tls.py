"""TLS on both listeners, and the commands that speak it."""
import http.client
import json
import socket
import ssl
import stat
import time

import pytest

from tests.peers.certificates import Authority
from tests.peers.process import free_port

TOKEN = "a-token-of-enough-letters"


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "authority")


def files(pair):
    return {"certificate": str(pair[0]), "key": str(pair[1])}


def to_kafka(topic):
    return [{"object_type": "*", "kafka": {"topic": topic}}]


def context_of(authority, client=None, version=None):
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if client:
        context.load_cert_chain(*map(str, client))
    if version:
        context.minimum_version = context.maximum_version = version
    return context


class Client:
    """A connection that stays open."""

    def __init__(self, address, context):
        host, port = address.rsplit(":", 1)
        self.connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=10)
        self.connection.connect()
        self.connection.auto_open = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    @property
    def serial(self):
        return self.connection.sock.getpeercert()["serialNumber"]

    def ask(self, method, path, body=None, headers=None):
        self.connection.request(method, path, body, headers or {})
        response = self.connection.getresponse()
        return response.status, response.read()


def expiry(bridge, listener, ask=None):
    if ask is None:
        return bridge.metrics().value("tls_certificate_expiry_timestamp_seconds", listener=listener)
    status, page = ask("GET", "/metrics")
    assert status == 200
    [line] = [line for line in page.decode().splitlines()
              if line.startswith(f'closebridge_tls_certificate_expiry_timestamp_seconds{{listener="{listener}"}}')]
    return float(line.split()[-1])


def test_a_new_certificate_is_for_new_connections_and_the_old_ones_stay(kafka, bridge, authority, topic):
    pair = authority.sign("server", days=1)
    bridge.start(listen={"tls": files(pair)}, topic_map=to_kafka(topic))
    context = context_of(authority)
    events = [bridge.event() for _ in range(3)]

    def post(client, event):
        body = bridge.body(event)
        return client.ask("POST", "/webhooks/main", body, bridge.close.headers(body))[0]

    with Client(bridge.address, context) as before:
        assert post(before, events[0]) == 200
        assert abs(expiry(bridge, "webhook") - time.time() - 86400) < 600
        authority.sign("server", days=2)
        answer = bridge.control("/control/reload", method="POST")
        assert (answer.status, answer.json["changed"]) == (200, ["listen.tls.certificate"])
        assert abs(expiry(bridge, "webhook") - time.time() - 2 * 86400) < 600
        with Client(bridge.address, context) as after:
            assert after.serial != before.serial
            assert post(after, events[1]) == 200
        assert post(before, events[2]) == 200, "on the connection that it began with"
        # A key that belongs to another certificate is refused, with its place, and nothing changes.
        pair[1].write_bytes(authority.sign("other")[1].read_bytes())
        answer = bridge.control("/control/reload", method="POST")
        lines = bridge.config_path.read_text().splitlines()
        number = next(n for n, line in enumerate(lines, 1) if '"tls"' in line)
        assert answer.status == 422
        assert answer.json["mistakes"][0].startswith(f"{bridge.config_path}:{number}: listen.tls: cannot use the key")
        with Client(bridge.address, context) as after:
            assert post(after, events[2]) == 200
    came = [record.event_id for record in kafka.read(topic, count=3)]
    assert sorted(came) == sorted(event["id"] for event in events)


def test_tls_can_be_switched_on_and_off(bridge, authority, topic):
    bridge.start(topic_map=to_kafka(topic))
    plain = dict(bridge.config["listen"])
    assert bridge.reload(listen={"tls": files(authority.sign("server"))}).status == 200
    with Client(bridge.address, context_of(authority)) as client:
        assert client.ask("GET", "/")[0] == 404
    with pytest.raises((OSError, http.client.HTTPException)):
        bridge.request("GET", "/")
    bridge.config["listen"] = plain
    assert bridge.reload().status == 200
    assert bridge.request("GET", "/").status == 404


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1")
def test_old_versions_are_refused_on_both_listeners(bridge, authority, topic):
    pair = files(authority.sign("server"))
    bridge.start(listen={"tls": pair}, control={"tls": pair}, topic_map=to_kafka(topic))
    for address in (bridge.address, bridge.control_address):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            with Client(address, context_of(authority, version=version)) as client:
                assert client.ask("GET", "/nothing")[0] == 404
        host, port = address.rsplit(":", 1)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                context.wrap_socket(connection)


def test_the_control_listener_lets_only_those_in_who_show_a_certificate(make_bridge, kafka, authority, tmp_path, topic):
    strangers = Authority(tmp_path / "strangers", "strangers")
    server = authority.sign("control", hosts="DNS:bridge.example.com,IP:127.0.0.1")
    admin = authority.sign("admin")
    bridge = make_bridge(kafka)
    bridge.start(control={"address": f"127.0.0.1:{free_port()}", "token": TOKEN,
                          "tls": {**files(server), "client_ca": str(authority.certificate)}},
                 topic_map=to_kafka(topic))
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with Client(bridge.control_address, context_of(authority, admin, version)) as client:
            assert client.ask("GET", "/readyz")[0] == 200
            assert client.ask("GET", "/control/refusals")[0] == 401, "the token is still needed"
            assert client.ask("GET", "/control/refusals", headers=bearer)[0] == 200
            assert abs(expiry(bridge, "control", client.ask) - time.time() - 86400) < 600
        for stranger in (None, strangers.sign("stranger")):
            with pytest.raises((OSError, http.client.HTTPException)):
                with Client(bridge.control_address, context_of(authority, stranger, version)) as client:
                    client.ask("GET", "/healthz")
    # Commands of the file: without a certificate to show they say which setting is missing.
    done = bridge.run("status", "-c", bridge.config_path)
    assert done.returncode == 69
    assert "control.tls.client_certificate" in done.stderr
    # With one they get in, and it is enough that the file says so to them.
    bridge.config["control"]["tls"].update(client_certificate=str(admin[0]), client_key=str(admin[1]))
    bridge.configure()
    done = bridge.run("status", "-c", bridge.config_path)
    assert (done.returncode, json.loads(done.stdout)["status"]) == (0, "ready"), done.stderr
    # A certificate of strangers is refused, and so is another server than the one that the file knows.
    stranger = strangers.sign("stranger")
    bridge.config["control"]["tls"].update(client_certificate=str(stranger[0]), client_key=str(stranger[1]))
    bridge.configure()
    assert bridge.run("status", "-c", bridge.config_path).returncode == 69
    bridge.config["control"]["tls"].update({"client_certificate": str(admin[0]), "client_key": str(admin[1]),
                                            **files(authority.sign("imposter"))})
    bridge.configure()
    done = bridge.run("status", "-c", bridge.config_path)
    assert done.returncode == 69
    assert "another certificate than control.tls.certificate" in done.stderr
    # After a reload the bridge shows it, too; the commands find it again, with the token's change.
    with Client(bridge.control_address, context_of(authority, admin)) as client:
        bridge.configure(control={"token": TOKEN[::-1]})
        status, answer = client.ask("POST", "/control/reload", headers=bearer)
        assert (status, json.loads(answer)["changed"]) == (200, [
            "control.token", "control.tls.certificate", "control.tls.key", "control.tls.client_certificate",
            "control.tls.client_key"])
        assert client.ask("GET", "/control/refusals", headers=bearer)[0] == 401
    assert bridge.run("status", "-c", bridge.config_path).returncode == 0
    assert TOKEN not in bridge.log() and "PRIVATE" not in bridge.log()


def test_send_finds_the_listener_with_its_own_certificate(kafka, make_bridge, authority, topic):
    """Whatever name is in it: the file says which one it is."""
    bridge = make_bridge(kafka)
    pair = authority.sign("server", hosts="DNS:hooks.example.com")
    bridge.start(listen={"address": f"127.0.0.1:{free_port()}", "tls": files(pair)}, topic_map=to_kafka(topic))
    done = bridge.run("send", "-c", bridge.config_path)
    assert done.returncode == 0, done.stderr
    kafka.read(topic, count=1)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_events_go_to_an_mqtt_broker_over_tls(make_bridge, mosquitto, authority, topic, version):
    port, (certificate, key) = free_port(), authority.sign("broker")
    mosquitto.configure(f"allow_anonymous true\nlistener {port} 127.0.0.1\ncertfile {certificate}\nkeyfile {key}\n")
    tap = mosquitto.start().subscribe(topic)
    bridge = make_bridge()
    bridge.start(publishers={"mqtt": {"url": f"mqtts://127.0.0.1:{port}", "ca": str(authority.certificate), "version": version}},
                 topic_map=[{"object_type": "*", "mqtt": {"topic": topic, "qos": 1, "format": "cloudevents"}}])
    event = bridge.event()
    assert bridge.post_signed(event).status == 200
    [message] = tap.wait(1)
    assert json.loads(message.payload)["data"]["id"] == event["id"]
    assert "event=publisher.down" not in bridge.log(), "the first connection holds"


def test_the_control_socket_is_for_its_user_alone_and_a_stale_one_is_no_obstacle(make_bridge, kafka, topic):
    bridge = make_bridge(kafka)
    path = bridge.folder / "control.sock"
    bridge.configure(control={"address": f"unix:{path}"}, topic_map=to_kafka(topic))
    for _ in range(2):  # the second time beside what the first one left
        bridge.start()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        done = bridge.run("status", "-c", bridge.config_path)
        assert (done.returncode, json.loads(done.stdout)["status"]) == (0, "ready")
        bridge.kill()
        assert path.exists()
    assert bridge.run("status", "-c", bridge.config_path).returncode == 69
    path.unlink()
    path.write_text("a file of somebody else")
    bridge.launch()
    assert bridge.process.child.wait(20) == 78
    assert "a file of another kind is there" in bridge.log()
    assert path.read_text() == "a file of somebody else"
