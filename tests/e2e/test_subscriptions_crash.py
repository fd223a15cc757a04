"""kill -9 at every step of a sync: between any two requests, before and after their effect, before and after a key is stored."""
import copy
import os
import random
import shutil
import threading

import pytest

from tests.e2e.subscriber import PAIRS, Subscriber
from tests.peers.process import wait_until

PHASES = ("arrived", "applied", "answered")


class Killer:
    """Kills the bridge when the `number`th request from now on reaches `phase`."""

    def __init__(self, subscriber, number, phase):
        self.bridge = subscriber.bridge
        self.close = subscriber.close
        self.step = (len(self.close.calls) + number, phase)
        self.done = threading.Event()
        self.close.on_request = self.on_request

    def on_request(self, call):
        if (self.close.calls.index(call) + 1, call.phase) == self.step:
            self.bridge.kill()
            self.done.set()


class Scene:
    """What the bridge and Close have before a sync; restore() makes it so again."""

    def __init__(self, subscriber):
        self.subscriber = subscriber
        self.folder = subscriber.bridge.folder
        self.copy = self.folder.with_name("before")
        self.subscriptions = copy.deepcopy(subscriber.close.subscriptions.by_id)
        shutil.copytree(self.folder, self.copy)

    def restore(self):
        shutil.rmtree(self.folder)
        shutil.copytree(self.copy, self.folder)
        self.subscriber.close.subscriptions.by_id = copy.deepcopy(self.subscriptions)


def nothing(subscriber):
    subscriber.close.add_foreign()
    subscriber.configure()


def other_pairs(subscriber):
    subscriber.close.add_foreign()
    wanted, subscriber.topic_map = subscriber.topic_map, subscriber.topic_map[:1]
    subscriber.start().wait_synced(pairs=PAIRS[:1])
    assert subscriber.bridge.terminate() == 0
    subscriber.topic_map = wanted
    subscriber.configure()


def lost_key(subscriber, others=5):
    subscriber.close.add_foreign(others)
    subscriber.close.subscribe(subscriber.account["webhook_url"], PAIRS)
    subscriber.configure()


def lost_key_with_forty(subscriber):
    lost_key(subscriber, 39)


def count_requests(subscriber):
    """Of an undisturbed sync."""
    mark = len(subscriber.close.calls)
    subscriber.start().wait_synced()
    subscriber.bridge.kill()
    return len(subscriber.close.calls) - mark


@pytest.mark.slow
@pytest.mark.parametrize("before, least", [(nothing, 2), (other_pairs, 2), (lost_key, 4), (lost_key_with_forty, 4)])
def test_killed_anywhere_a_sync_converges_to_one_subscription_with_a_known_key(
        bridge, close_server, topic, before, least):
    subscriber = Subscriber(bridge, close_server, topic)
    before(subscriber)
    scene = Scene(subscriber)
    requests = count_requests(subscriber)
    assert requests >= least
    for number in range(1, requests + 1):
        for phase in PHASES:
            scene.restore()
            killer = Killer(subscriber, number, phase)
            bridge.launch()
            wait_until(killer.done.is_set, 30, lambda: f"request {number} is {phase}: {bridge.log()[-2000:]}")
            close_server.on_request = None
            subscriber.start().wait_synced()
            subscriber.check_key_is_known()
            close_server.check_foreign()
            bridge.kill()
            bridge.finish()  # looks for reports of sanitizers before the log is gone


@pytest.mark.slow
def test_killed_again_and_again_it_still_converges(bridge, close_server, topic):
    seed = int(os.environ.get("SEED", random.randrange(10 ** 9)))
    print(f"SEED={seed}")
    chance = random.Random(seed)
    subscriber = Subscriber(bridge, close_server, topic)
    lost_key(subscriber)
    for _ in range(30):
        killer = Killer(subscriber, chance.randrange(1, 4), chance.choice(PHASES))
        bridge.launch()
        killer.done.wait(1)  # it may have come to an end before
        bridge.kill()
        if chance.random() < 0.3:
            subscriber.keys_path.unlink(missing_ok=True)
    close_server.on_request = None
    subscriber.start().wait_synced()
    subscriber.check_key_is_known()
    close_server.check_foreign()
