"""The control listener: DESIGN section 7."""
import pytest

from tests.peers.process import wait_until

TOKEN = "a-token-of-enough-letters"

# Without TLS and without an API key: what then cannot be known is not there.
NAMES = {
    "webhooks_total", "webhook_duration_seconds", "events_received_total", "events_published_total",
    "publish_latency_seconds", "dead_letters", "parked_events", "publisher_up", "publisher_lag_events",
    "publisher_lag_seconds", "journal_bytes", "journal_max_bytes", "dedupe_window_seconds",
    "last_event_timestamp_seconds", "build_info",
}


@pytest.fixture
def settings(topic):
    return {"topic_map": [{"object_type": "*", "kafka": {"topic": topic}}]}


def test_alive_and_ready(bridge, settings):
    bridge.start(**settings)
    assert bridge.control("/healthz").status == 200
    answer = bridge.readyz()
    assert (answer.status, answer.json["status"]) == (200, "ready")
    assert answer.headers["content-type"].startswith("application/json")


def test_metrics_have_the_names_that_are_promised(bridge, settings):
    bridge.start(**settings)
    assert bridge.post_signed(bridge.event()).status == 200
    assert bridge.post_signed(bridge.event("no_such", "thing")).status == 200
    assert bridge.post_signed(bridge.event(), key="00" * 32).status == 401
    # The latency is measured right after the record is counted.
    wait_until(lambda: bridge.metrics().value("publish_latency_seconds_count", publisher="kafka") >= 2, 30, "both are published")
    metrics = bridge.metrics()
    families = {name.removeprefix("closebridge_").removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
                for name in metrics.names}
    assert NAMES <= families, NAMES - families
    assert all(name.startswith("closebridge_") for name in metrics.names)
    assert metrics.value("webhooks_total", account="main", result="accepted") == 2
    assert metrics.value("webhooks_total", account="main", result="bad_signature") == 1
    assert metrics.value("events_received_total", account="main", object_type="lead", action="created") == 1
    assert metrics.value("events_received_total", account="main", object_type="other") == 1
    assert metrics.value("events_published_total", publisher="kafka") == 2
    assert metrics.value("publish_latency_seconds_count", publisher="kafka") == 2
    assert metrics.value("webhook_duration_seconds_count") >= 2
    assert metrics.value("journal_max_bytes") == 256 * 2 ** 20
    assert metrics.value("dedupe_window_seconds") == 96 * 3600


def test_every_family_is_explained(bridge, settings):
    bridge.start(**settings)
    text = bridge.metrics().text
    helped = {line.split()[2] for line in text.splitlines() if line.startswith("# HELP ")}
    typed = {line.split()[2]: line.split()[3] for line in text.splitlines() if line.startswith("# TYPE ")}
    assert helped == set(typed)
    assert set(typed.values()) <= {"counter", "gauge", "histogram"}
    assert all(name.endswith("_total") for name, kind in typed.items() if kind == "counter")


def test_a_browser_is_refused(bridge, settings):
    bridge.start(**settings)
    for path in ("/healthz", "/metrics", "/control/topic-map"):
        assert bridge.control(path, headers={"Origin": "https://example.com"}).status == 403


def test_what_does_not_exist(bridge, settings):
    bridge.start(**settings)
    assert bridge.control("/nothing").status == 404
    assert bridge.control("/metrics", method="POST").status == 405
    assert bridge.request("GET", "/metrics").status == 404, "the public listener shows no metrics"


def test_a_token_is_needed_for_all_but_three_paths(bridge, settings):
    bridge.start(control={"token": TOKEN}, **settings)
    for path in ("/healthz", "/readyz", "/metrics"):
        assert bridge.control(path).status == 200
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "}, {"Authorization": TOKEN}):
        assert bridge.control("/control/topic-map", headers=headers).status == 401
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert bridge.control("/control/topic-map", headers={"Authorization": f"{scheme} {TOKEN}"}).status == 200, scheme
    assert TOKEN not in bridge.log()
