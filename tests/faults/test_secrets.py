"""No secret is anywhere where it should not be, whatever happens to the bridge (RELIABILITY F30, S12)."""
import json
import os
import pathlib
import re
import signal
import subprocess

import pytest

from tests.e2e.close_client import HOOK
from tests.faults.canaries import Canaries
from tests.peers.certificates import Authority, openssl
from tests.peers.process import free_port, wait_until

USER = "bridge"
COMMANDS = [["check"], ["topics"], ["topics", "--check"], ["sync"], ["sync", "--dry-run"], ["catch-up"], ["send"], ["status"],
            ["events", "--since", "1h"], ["dead-letters", "list"], ["replay", "--since", "1h", "--dry-run"], ["asyncapi"], ["version"]]
OFFLINE = [["journal", "verify"], ["journal", "stats"], ["events", "--since", "1h"], ["dead-letters", "list"]]


@pytest.mark.row("F30")
def test_the_canaries_are_found_in_every_spelling():
    """The search itself: what it could not find would prove nothing."""
    import base64
    canaries = Canaries()
    text, key = canaries.text("a password"), canaries.key("a key")
    assert canaries.hits() == []
    raw = bytes.fromhex(key)
    shown = [f"password={text}", f"x{text[:20]}...", f"...{text[-20:]}", text.encode().hex(), key, key.upper(),
             base64.b64encode(f"\0user\0{text}".encode()), base64.b64encode(f"{text}:".encode()), b"\0" + raw + b"\0",
             base64.urlsafe_b64encode(b"12" + raw)]
    for number, data in enumerate(shown):
        canaries.seen.clear()
        canaries.look("here", data)
        assert len(canaries.hits()) == 1, (number, data)
    canaries.seen.clear()
    canaries.look("here", b"canary-" + os.urandom(10000))
    assert canaries.hits() == []


class Secrets:
    """One of every kind that a configuration knows, by all the ways in which it can come."""

    def __init__(self, folder, canaries, close):
        self.folder = folder
        folder.mkdir(mode=0o700)
        self.env = {"CREDENTIALS_DIRECTORY": str(folder)}
        self.token = canaries.text("the control token")
        self.sasl_password = canaries.text("the password at Kafka")
        self.mqtt_password = canaries.text("the password at the MQTT broker")
        self.key = canaries.key("a signature key from the environment")
        self.other_key = canaries.key("a signature key from a file")
        self.api_key = canaries.add("the API key", close.api_key)
        self.oauth_token = canaries.add("the OAuth token", close.token)
        authority = Authority(folder / "authority")
        self.certificate, self.tls_key = authority.sign("bridge")
        pem = self.tls_key.read_text()
        canaries.add("the TLS key", "".join(pem.splitlines()[1:-1]))
        self.passphrase = canaries.text("the passphrase of a TLS key")
        self.encrypted_key = folder / "encrypted.key"
        openssl("pkey", "-aes256", "-passout", f"pass:{self.passphrase}", "-in", self.tls_key, "-out", self.encrypted_key)
        self.files = {}
        for name in ("token", "sasl_password", "mqtt_password", "other_key", "oauth_token", "passphrase"):
            path = folder / name
            path.write_text(getattr(self, name) + "\n")
            path.chmod(0o600)
        self.env.update(CANARY_API_KEY=self.api_key, CANARY_KEY=self.key)

    def file(self, name):
        return "${file:%s}" % (self.folder / name)


def let_in(kafka, password, admin):
    """A second listener of a broker that is not started yet, with SASL. Returns its port."""
    port = free_port()
    text = kafka.config.read_text()
    for name, more in (("listeners", f",SASL://127.0.0.1:{port}"), ("advertised.listeners", f",SASL://127.0.0.1:{port}"),
                       ("listener.security.protocol.map", ",SASL:SASL_PLAINTEXT")):
        text = re.sub(rf"^{re.escape(name)}=.*$", lambda found, more=more: found[0] + more, text, flags=re.M)
    kafka.config.write_text(text + "sasl.enabled.mechanisms=PLAIN\nlistener.name.sasl.plain.sasl.jaas.config="
                            "org.apache.kafka.common.security.plain.PlainLoginModule required "
                            f'username="admin" password="{admin}" user_{USER}="{password}";\n')
    return port


def mosquitto_that_asks(mosquitto, password):
    path = mosquitto.write("passwords", "")
    subprocess.run(["mosquitto_passwd", "-b", path, USER, password], check=True, capture_output=True)
    mosquitto.configure(f"allow_anonymous false\npassword_file {path}\n")


class Life:
    """The bridge, and everything that it shows."""

    def __init__(self, bridge, canaries, secrets, close, topic):
        self.bridge, self.canaries, self.secrets, self.close, self.topic = bridge, canaries, secrets, close, topic
        bridge.env = secrets.env
        bridge.prefix = ["bash", "-c", 'ulimit -c unlimited; exec "$@" --log-level debug', "bash"]
        close.routes["https://hooks.example.com"] = lambda: f"http://{bridge.address}"

    def configure(self, kafka_port, **kafka):
        s = self.secrets
        account = {"api_url": self.close.url, "catch_up": {"interval": 0}}
        self.bridge.config["publishers"] = {
            "kafka": {"bootstrap.servers": f"127.0.0.1:{kafka_port}", "security.protocol": "sasl_plaintext", "sasl.mechanisms": "PLAIN",
                      "sasl.username": USER, "sasl.password": s.file("sasl_password"), "ssl.key.location": str(s.encrypted_key),
                      "ssl.key.password": s.file("passphrase"), "debug": "all", "reconnect.backoff.max.ms": 300, **kafka},
            "mqtt": {"url": self.mosquitto.url, "username": USER, "password": s.file("mqtt_password"), "keepalive": "5s"}}
        self.bridge.configure(
            control={"address": self.bridge.config["control"]["address"], "token": "${credential:token}"},
            accounts=[{"name": "main", "api_key": "${CANARY_API_KEY}", "signature_keys": [], "webhook_url": HOOK, "sync": "startup",
                       **account},
                      {"name": "second", "oauth_token": s.file("oauth_token"), "signature_keys": [s.file("other_key"), "${CANARY_KEY}"],
                       "sync": "manual", **account}],
            topic_map=[{"object_type": "lead", "kafka": {"topic": self.topic}, "mqtt": {"topic": self.topic, "qos": 1}}])

    def ask(self, path, method="GET", token=None):
        headers = {"Authorization": f"Bearer {token or self.secrets.token}"}
        answer = self.bridge.control(path, method, headers=headers, timeout=60)
        self.canaries.look(f"the answer to {method} {path}", repr(answer.headers) + answer.body.decode())
        return answer

    def ask_everything(self):
        spec = (pathlib.Path(__file__).parents[2] / "docs" / "control.openapi.yaml").read_text()
        paths = re.findall(r"^  (/\S+):$", spec, re.M)
        assert len(paths) >= 12
        for path in paths:
            self.ask(path + ("?since=1h" if path.endswith("events") else ""))
        self.ask("/control/refusals", token=self.canaries.text("a token that was tried"))
        for path in ("/control/sync", "/control/sync?dry_run=true", "/control/reload", "/control/catch-up?since=1h",
                     "/control/replay?since=1h", "/control/dead-letters/retry"):
            self.ask(path, "POST")

    def run(self, *arguments):
        done = self.bridge.run(*arguments, "-c", self.bridge.config_path, env=self.secrets.env, timeout=60)
        self.canaries.look(f"close-bridge {' '.join(arguments)}", done.stdout + done.stderr)
        return done

    def post_good_and_bad(self):
        """Webhooks of every kind; what they hold is nobody's to log either."""
        bridge, s = self.bridge, self.secrets
        payload = self.payloads.text("the payload of a webhook")
        event = bridge.event("lead", "created")
        event["data"]["name"] = payload
        bad = self.canaries.key("a key that was tried")
        for account, key in (("second", s.key), ("second", s.other_key), ("second", bad), ("main", bad)):
            headers = bridge.close.headers(bridge.body(event), key=key)
            self.canaries.add("a signature", headers["Close-Sig-Hash"])
            bridge.post_signed(event, account=account, key=key)
            bridge.post_signed(event, account=account, key=key, timestamp=1)
        for body in (b'{"' + payload.encode(), b'{"event":{"id":"%s"}}' % payload.encode()):
            assert bridge.post_signed(body, account="second", key=s.key).json["status"] == "dead_lettered"
        bridge.post_signed(event, account="main", key=self.own_key())
        self.close.emit(object_type="lead", action="updated")
        self.close.delivery.wait_idle()

    def own_key(self):
        [own] = self.close.own(HOOK)
        self.canaries.add("a key that Close gave", own.key)
        self.canaries.add("a key that Close gave", bytes.fromhex(own.key))
        return own.key

    def wait_synced(self):
        wait_until(lambda: "event=subscriptions.synced" in self.bridge.log() or self.close.own(HOOK), 30,
                   lambda: self.bridge.log()[-3000:])

    def crash(self, number):
        """Ends it with a signal that leaves a core where one may be left."""
        process = self.bridge.process
        self.look_at_process()
        self.bridge.should_run = False
        process.signal(number)
        assert process.child.wait(20) == -number
        cores = [path for path in self.bridge.folder.iterdir() if path.name.startswith("core")]
        assert not cores, "a core was left, and in it is everything"

    def look_at_process(self):
        folder = pathlib.Path(f"/proc/{self.bridge.process.pid}")
        self.canaries.look("the command line", (folder / "cmdline").read_bytes())
        limits = (folder / "limits").read_text()
        assert re.search(r"^Max core file size\s+0\s+0\s", limits, re.M), limits
        for thread in (folder / "task").iterdir():
            self.canaries.look("the names of threads", (thread / "comm").read_bytes())

    def look_at_files(self):
        """All that it wrote, but for the file that is there to hold keys."""
        files = [path for path in self.bridge.folder.rglob("*") if path.is_file()]
        keys = [path for path in files if path.name == "journal.keys"]
        assert len(keys) == 1 and keys[0].stat().st_mode & 0o777 == 0o600
        assert {"data.mdb", "close-bridge.log", "close-bridge.yaml"} <= {path.name for path in files}
        for path in files:
            if path not in keys:
                self.canaries.look(f"the file {path.relative_to(self.bridge.folder)}", path.read_bytes())
        for payload in self.payloads.hits():
            assert False, payload


def mistakes(canaries, config_text, s):
    """(what, a configuration with that mistake, whose secrets are written where they do the most harm)"""
    def text(what):
        return canaries.text(f"what was written as {what}")

    config = json.loads(config_text)

    def changed(section, **members):
        copy = json.loads(config_text)
        place = copy
        for name in section:
            place = place[name]
        place.update(members)
        return json.dumps(copy, indent=1)

    account, kafka, mqtt = ("accounts", 0), ("publishers", "kafka"), ("publishers", "mqtt")
    cases = {
        "a key with a misspelt name": changed(account, api_kye=text("api_kye")),
        "an API key in a list": changed(account, api_key=[text("a list")]),
        "an API key as a mapping": changed(account, api_key={"value": text("a mapping")}),
        "both keys": changed(account, api_key=text("api_key"), oauth_token=text("oauth_token")),
        "a key with a line end": changed(account, api_key=text("a key") + "\nX-Header: b"),
        "a signature key that is no hex": changed(account, signature_keys=[text("a signature key")]),
        "a signature key that is too long": changed(account, signature_keys=[canaries.key("a key and more") + "00"]),
        "a signature key that is too short": changed(account, signature_keys=[canaries.key("half a key")[:40]]),
        "one signature key": changed(account, signature_keys={"a": canaries.key("a key in a mapping")}),
        "a URL with a password": changed(account, webhook_url=f"https://user:{text('a URL')}@hooks.example.com/webhooks/main"),
        "an API URL with a password": changed(account, api_url=f"https://user:{text('an API URL')}@api.close.com/api/v1"),
        "a name that is a secret": changed(account, name=text("a name") + " !"),
        "an object type in place of a secret": changed(("topic_map", 0), account=text("an account")),
        "a misspelt property": changed(kafka, **{"sasl.pasword": text("sasl.pasword")}),
        "a password in a list": changed(kafka, **{"sasl.password": [text("sasl.password")]}),
        "a PEM key that is none": changed(kafka, **{"security.protocol": "ssl", "ssl.key.pem": text("ssl.key.pem")}),
        "a JAAS line": changed(kafka, **{"sasl.jaas.config": f'required password="{text("a JAAS line")}";'}),
        "an OAuth secret": changed(kafka, **{"sasl.oauthbearer.client.secret": [text("an OAuth secret")]}),
        "a wrong passphrase": changed(kafka, **{"security.protocol": "ssl", "ssl.key.password": text("a wrong passphrase")}),
        "a broker URL with a password": changed(mqtt, url=f"mqtt://user:{text('an MQTT URL')}@127.0.0.1:1883"),
        "a misspelt MQTT password": changed(mqtt, pasword=text("pasword")),
        "a password without a user": changed(mqtt, username=None, password=text("a password without a user")),
        "a token that is too short": changed(("control",), address="0.0.0.0:1", token="short"),
        "a token as a mapping": changed(("control",), token={text("a key of a mapping"): 1}),
        "a token behind a bad reference": changed(("control",), token="ab${%s!}" % text("a reference")),
        "a token with a reference that does not end": changed(("control",), token="ab${%s" % text("an open reference")),
        "a TLS key that is encrypted": changed(("listen",), tls={"certificate": str(s.certificate), "key": str(s.encrypted_key)}),
        "a TLS key of another": changed(("listen",), tls={"certificate": str(s.folder / "authority" / "ca.pem"), "key": str(s.tls_key)}),
        "a quote that does not end": config_text.replace('"token": "', f'"token": "{text("a quote")}\n" '),
        "an alias": config_text.replace('"token": "${credential:token}"', f'"token": *{text("an alias")}'),
        "a tag": config_text.replace('"token": "${credential:token}"', f'"token": !!{text("a tag")} x'),
        "a colon too many": f"control: token: {text('a colon')}\n",
        "the same key twice": config_text.replace('"api_key":', f'"api_key": "{text("the first of two")}", "api_key":'),
        "a byte that is no UTF-8": config_text.replace('"token": "', '"token": "' + text("bad bytes") + "\udcff"),
        "a list where a mapping is": f"accounts: [{text('an account')}]\n",
        "a secret as the whole file": text("the whole file"),
    }
    assert config["accounts"][0]["name"] == "main"
    return cases


@pytest.mark.row("F30")
def test_no_secret_is_shown_or_kept_through_a_whole_life(own_kafka, mosquitto, make_bridge, close_server, tmp_path, topic, figures):
    canaries = Canaries()
    kafka, bridge = own_kafka(), make_bridge()
    secrets = Secrets(tmp_path / "secrets", canaries, close_server)
    life = Life(bridge, canaries, secrets, close_server, topic)
    life.mosquitto, life.payloads = mosquitto, Canaries()
    sasl_port = let_in(kafka, secrets.sasl_password, canaries.text("another password at Kafka"))
    kafka.start()
    # Logins are refused: by a Kafka that knows no SASL, by an MQTT broker with another password.
    mosquitto_that_asks(mosquitto, "another-password-than-the-one-configured")
    mosquitto.start()
    bridge.config["control"]["address"] = f"127.0.0.1:{free_port()}"
    life.configure(kafka.port)
    canaries.look("close-bridge check", life.run("check").stdout)
    bridge.start()
    life.wait_synced()
    life.own_key()
    life.post_good_and_bad()
    wait_until(lambda: re.search(r"event=mqtt\.\S*|publisher=mqtt", bridge.log()), 20, "the broker refuses the login")
    wait_until(lambda: "SASL" in bridge.log(), 20, "Kafka's library tells of it")
    assert "[redacted]" in bridge.log(), "librdkafka shows its settings"
    life.ask_everything()
    # Close refuses the keys, and is so careless as to repeat them, whole or where a long sentence is cut.
    for status, sentence in ((400, ""), (400, "x" * 100), (400, "x" * 130), (401, ""), (403, "")):
        close_server.faults.add(status=status, count=None, json_body={"error": f"{sentence} {secrets.api_key} is not valid.",
                                                                      "errors": [secrets.oauth_token]})
        life.ask("/control/sync", "POST")
        life.run("sync")
        close_server.faults.heal()
    # The right passwords, by a reload; then everything flows.
    mosquitto.kill()
    mosquitto_that_asks(mosquitto, secrets.mqtt_password)
    mosquitto.start()
    life.configure(sasl_port)
    assert life.ask("/control/reload", "POST").status == 200
    event = bridge.event("lead", "created")
    assert bridge.post_signed(event, account="second", key=secrets.key).status == 200
    with kafka.reader(topic) as reader:
        reader.until(lambda records: event["id"] in {record.event_id for record in records}, 40, "the event")
    wait_until(lambda: float(re.search(r'^closebridge_publisher_up\{publisher="mqtt"\} (\d)', life.ask("/metrics").body.decode(), re.M)[1]),
               20, "MQTT is up")
    life.post_good_and_bad()
    life.ask_everything()
    for command in COMMANDS:
        life.run(*command)
    exported = life.bridge.run("keys", "export", "--account", "second", "-c", bridge.config_path, env=secrets.env)
    assert set(exported.stdout.split()) == {secrets.key, secrets.other_key}, "who asks for keys gets them"
    canaries.look("close-bridge keys export, beside the keys", exported.stderr)
    # Mistakes: of the file, at a check and at a reload.
    good = bridge.config_path.read_text()
    for what, text in mistakes(canaries, good, secrets).items():
        bridge.config_path.write_bytes(text.encode(errors="surrogateescape"))
        done = life.run("check")
        assert done.returncode == 78, (what, done.returncode, done.stdout, done.stderr)
        assert life.ask("/control/reload", "POST").status == 422, what
    bridge.config_path.write_text(good)
    # Crashes, and lives after them.
    life.crash(signal.SIGSEGV)
    for command in OFFLINE:
        life.run(*command)
    bridge.start()
    life.post_good_and_bad()
    life.crash(signal.SIGABRT)
    bridge.start()
    assert bridge.terminate() == 0
    life.look_at_files()
    hits = canaries.hits()
    figures(secrets=len(set(canaries.marks.values())), shown=len(canaries.seen), bytes_searched=sum(len(data) for _, data in canaries.seen),
            hits=len(hits))
    assert not hits, "\n".join(hits)
