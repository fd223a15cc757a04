"""The command line and its exit codes (sysexits): DESIGN section 7."""
import json
import socket
import subprocess

import pytest

from tests.peers.close_simulator import catalog
from tests.peers.process import free_port

USAGE, NOINPUT, UNAVAILABLE, NOPERM, CONFIG = 64, 66, 69, 77, 78


@pytest.fixture
def settings(topic):
    return {"topic_map": [{"object_type": "*", "kafka": {"topic": topic}}]}


def test_version_and_help(bridge):
    version = bridge.run("version")
    assert version.returncode == 0 and version.stdout.strip()
    assert bridge.run("--version").stdout == version.stdout
    assert bridge.run("--help").returncode == 0
    for command in ("serve", "check", "sync", "unsubscribe", "keys", "send", "status", "catch-up", "catalog", "topics", "asyncapi", "version", "events",
                    "dead-letters", "journal", "replay"):
        done = bridge.run(command, "--help")
        assert (done.returncode, "usage:" in done.stdout) == (0, True), command


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["serve", "--no-such-option"], ["check", "one", "two"],
                                       ["send", "--account"]])
def test_what_is_not_understood_is_a_usage_error(bridge, arguments):
    done = bridge.run(*arguments)
    assert done.returncode == USAGE
    assert done.stderr and not done.stdout


@pytest.mark.parametrize("arguments, said", [
    ("chekc", "there is no command chekc (did you mean check?)"),
    ("-c close-bridge.yaml check", "options such as -c stand behind the command"),
    ("events --limt 3", "no option --limt (did you mean --limit?)"),
    ("events -x", "no option -x"),
    ("events --limit", "--limit needs a value"),
    ("events -c", "-c needs a value"),
    ("events --json=yes", "--json takes no value"),
    ("events --limit 0", "--limit is a whole number from 1 to 200, not 0"),
    ("events --since soon", "--since soon is not a point in time"),
    ("events lead", "it takes no argument such as lead"),
    ("dead-letters list --after -1", "--after is a whole number from 0 to"),
    ("dead-letters retry --all 7", "say the numbers, or --all"),
    ("catalog --category leads", "there is no category leads (did you mean lead?)"),
    ("journal stats --path .", "--path goes with verify and salvage"),
    ("send --url ftp://example.com", "--url ftp://example.com does not begin with http:// or https://"),
    ("keys export", "say export --account NAME"),
    ("replay --follow --stop", "--follow and --stop stand alone"),
    ("serve --log-level loud", "--log-level is debug, info, warn or error"),
    ("sync --keys-out keys --dry-run", "a dry run has no keys for --keys-out"),
])
def test_a_usage_error_says_what_is_wrong_and_where_help_is(bridge, arguments, said):
    done = bridge.run(*arguments.split())
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert said in done.stderr and "--help" in done.stderr


def test_options_stand_before_and_behind_arguments(bridge, settings):
    bridge.configure(**settings)
    for arguments in (("-c", bridge.config_path, "stats"), ("stats", f"-c{bridge.config_path}"),
                      ("stats", f"--config={bridge.config_path}")):
        done = bridge.run("journal", *arguments)
        assert (done.returncode, "there is no journal" in done.stderr) == (NOINPUT, True), done


def test_without_a_journal_it_is_said_that_no_bridge_answers_either(bridge, settings):
    bridge.configure(control={"address": f"127.0.0.1:{free_port()}"}, **settings)
    for arguments in (["events"], ["dead-letters", "list"]):
        done = bridge.run(*arguments, "-c", bridge.config_path)
        assert done.returncode == NOINPUT
        assert "there is no journal" in done.stderr and "no bridge answers at" in done.stderr, done


def test_check_accepts_a_good_file(bridge, settings):
    bridge.configure(**settings)
    done = bridge.run("check", "-c", bridge.config_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_check_names_every_mistake_with_its_line(bridge):
    bridge.config_path.write_text(
        "listen: {address: nonsense}\n"                                   # 1
        "jurnal: {}\n"                                                    # 2
        "accounts:\n"                                                     # 3
        "  - {name: main, signature_keys: [abc], sync: manual}\n"         # 4
        "publishers:\n"                                                   # 5
        "  kafka: {bootstrap.servers: '${NOT_SET_ANYWHERE}'}\n"           # 6
        "topic_map:\n"                                                    # 7
        "  - {object_type: lead, kafka: {topic: 'bad topic'}}\n")         # 8
    done = bridge.run("check", "-c", bridge.config_path)
    assert done.returncode == CONFIG
    for line in (1, 2, 4, 6, 8):
        assert f"{bridge.config_path.name}:{line}:" in done.stderr, done.stderr
    assert bridge.run("serve", "-c", bridge.config_path).returncode == CONFIG


@pytest.mark.parametrize("command", ["check", "serve", "send"])
def test_a_configuration_that_is_not_there_or_no_file_is_named_and_what_to_do(bridge, command, monkeypatch):
    monkeypatch.chdir(bridge.folder)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for path, what in (("not-there.yaml", "No such file or directory"), (".", "it is a directory"), ("socket", "it is a socket")):
            done = bridge.run(command, "-c", path)
            assert (done.returncode, done.stderr) == (
                NOINPUT, f"{path}: cannot read the configuration: {what}; name another file with -c\n")


def test_a_configuration_may_come_through_a_pipe(bridge, settings):
    bridge.configure(**settings)
    done = subprocess.run([bridge.binary, "check", "-c", "/dev/stdin"], input=bridge.config_path.read_text(), text=True,
                          capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


def test_check_and_serve_name_a_certificate_that_cannot_be_used(bridge, settings):
    bridge.configure(listen={"tls": {"certificate": "not-there.pem", "key": "key.pem"}}, **settings)
    line = next(number for number, text in enumerate(bridge.config_path.read_text().splitlines(), 1) if '"tls"' in text)
    for command in ("check", "serve"):
        done = bridge.run(command, "-c", bridge.config_path)
        assert done.returncode == CONFIG
        assert f"{bridge.config_path}:{line}: listen.tls: cannot use the certificate" in done.stderr
        assert "not-there.pem: No such file or directory\n" in done.stderr


def test_check_does_not_print_secrets(bridge, settings):
    settings["control"] = {"token": "${SECRET_TOKEN}", "nonsense": 1}
    bridge.configure(**settings)
    done = bridge.run("check", "-c", bridge.config_path, env={"SECRET_TOKEN": "hush-hush-hush-hush"})
    assert done.returncode == CONFIG
    assert "hush" not in done.stdout + done.stderr


def test_send_signs_and_posts_an_event_that_is_marked_as_a_test(bridge, kafka, topic, settings):
    bridge.start(**settings)
    url = f"http://{bridge.address}/webhooks/main"
    done = bridge.run("send", "-c", bridge.config_path, "--url", url, "--object-type", "opportunity",
                      "--action", "updated", "--lead", "lead_sent", "--event-id", "ev_sent")
    assert done.returncode == 0, done.stderr
    [record] = kafka.read(topic, count=1)
    assert record.headers["ce_closetest"] == "true"
    assert (record.key, record.event_id, record.headers["ce_type"]) == (
        "lead_sent", "ev_sent", "com.close.opportunity.updated")


def test_send_tells_when_nobody_answers_or_the_signature_is_refused(bridge, make_bridge, kafka, settings):
    bridge.start(**settings)
    url = f"http://{bridge.address}/webhooks/main"
    other = make_bridge(kafka, name="other")
    other.config["accounts"][0]["signature_keys"] = ["00" * 32]
    other.configure(**settings)
    assert bridge.run("send", "-c", other.config_path, "--url", url).returncode == NOPERM
    bridge.terminate()
    assert bridge.run("send", "-c", bridge.config_path, "--url", url).returncode == UNAVAILABLE


def test_the_catalog_as_json_is_the_table(bridge):
    done = bridge.run("catalog", "--json")
    assert done.returncode == 0
    rows = json.loads(done.stdout)
    assert all(set(row) == {"category", "label", "group", "object_type", "action", "status"} for row in rows)
    assert {(row["object_type"], row["action"]) for row in rows} == {
        (pair.object_type, pair.action) for pair in catalog()}
