"""A bridge that looks after its subscription at the simulator of Close, and what a test wants to know of the two."""
from tests.e2e.close_client import HOOK
from tests.e2e.openapi import check_against_openapi
from tests.peers.process import wait_until

PAIRS = [("lead", "created"), ("lead", "updated"), ("contact", "created")]


class Subscriber:
    """`bridge` with an API key and HOOK as its URL. Close reaches it there wherever it listens."""

    def __init__(self, bridge, close, topic, **account):
        self.bridge = bridge
        self.close = close
        self.account = {"name": "main", "api_key": close.api_key, "api_url": close.url, "webhook_url": HOOK,
                        "sync": "startup", "catch_up": {"interval": 0}, **account}
        self.topic_map = [{"object_type": kind, "action": action, "kafka": {"topic": topic}} for kind, action in PAIRS]
        close.routes["https://hooks.example.com"] = lambda: f"http://{bridge.address}"

    @property
    def keys_path(self):
        return self.bridge.folder / "journal.keys"

    def configure(self, **sections):
        self.bridge.configure(**{"accounts": [self.account], "topic_map": self.topic_map, **sections})

    def start(self, **sections):
        self.configure(**sections)
        self.bridge.start()
        return self

    def sync(self, query=""):
        """What an explicit sync says of the account."""
        answer = self.bridge.control("/control/sync" + query, "POST")
        assert answer.status == 200, answer
        check_against_openapi("Syncs", answer.json)
        [account] = answer.json["accounts"]
        return account

    @property
    def own(self):
        return self.close.own(HOOK)

    def wait_synced(self, pairs=PAIRS, timeout=30):
        """Until a sync of this process has succeeded; then exactly one active subscription has to carry exactly `pairs`."""
        wait_until(lambda: self.bridge.metrics().value("sync_last_success_timestamp_seconds", account="main"), timeout,
                   lambda: f"a sync succeeds: {self.close.requests()[-20:]}\n{self.bridge.log()[-3000:]}")
        [own] = self.own
        assert (own.is_active, own.pairs) == (True, set(pairs))
        return own

    def check_key_is_known(self):
        """An event of every subscription on our URL is accepted at its first attempt."""
        for subscription in self.own:
            event = self.close.maker.event("lead", "created")
            answer = self.bridge.post_signed(
                self.close.delivery.body(subscription, event), key=subscription.key)
            assert (answer.status, answer.json.get("status")) == (200, "accepted"), answer
