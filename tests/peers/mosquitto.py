"""A real mosquitto on a free port, and a subscriber that keeps everything it gets."""
import os
import pathlib
import threading

import paho.mqtt.client as mqtt

from tests.peers.process import Process, free_port, wait_until


class Message:
    def __init__(self, message):
        self.topic = message.topic
        self.payload = message.payload
        self.qos = message.qos
        self.retain = bool(message.retain)
        properties = getattr(message, "properties", None)
        self.attribute_list = [tuple(pair) for pair in getattr(properties, "UserProperty", None) or []]
        self.attributes = dict(self.attribute_list)
        self.content_type = getattr(properties, "ContentType", None)
        self.format_indicator = getattr(properties, "PayloadFormatIndicator", None)
        self.expiry = getattr(properties, "MessageExpiryInterval", None)

    @property
    def event_id(self):
        return self.attributes.get("closeeventid")


class Mosquitto:
    """`config` is added to what the tests always want: one listener, no persistence, no limits on queues."""

    def __init__(self, folder, config="allow_anonymous true\n"):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.config = self.folder / "mosquitto.conf"
        self.configure(config)
        self.process = Process("mosquitto", ["/usr/sbin/mosquitto", "-c", self.config],
                               self.folder / "mosquitto.log")
        self.subscribers = []

    def configure(self, config):
        """Takes effect at the next start."""
        user = "user root\n" if os.geteuid() == 0 else ""  # else it gives up its rights to our folder
        self.config.write_text(f"listener {self.port} 127.0.0.1\npersistence false\nmax_queued_messages 0\n"
                               f"max_inflight_messages 0\n{user}{config}")

    def write(self, name, text):
        """A file for the configuration to name, such as a list of rights. Returns its path."""
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        return path

    @property
    def url(self):
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self):
        """On the same port as before."""
        self.process.start()
        wait_until(self._answers, 20, lambda: f"mosquitto answers:\n{self.process.log()[-2000:]}")
        return self

    def _answers(self):
        """It answered CONNECT, whatever it said."""
        self.process.check()
        answered = threading.Event()
        probe = mqtt.Client(protocol=mqtt.MQTTv5)
        probe.on_connect = lambda *_: answered.set()
        try:
            probe.connect("127.0.0.1", self.port)
        except OSError:
            return False
        probe.loop_start()
        try:
            return answered.wait(2)
        finally:
            probe.disconnect()
            probe.loop_stop()

    def stop(self):
        self.process.resume()
        self.process.stop()
        self._wait_noticed()

    def kill(self):
        self.process.kill()
        self._wait_noticed()

    def _wait_noticed(self):
        """Until its subscribers know that it is gone: else they would say that they are subscribed when it is back."""
        for subscriber in self.subscribers:
            wait_until(lambda subscriber=subscriber: not subscriber.subscribed.is_set(), 30, "a subscriber sees the end of mosquitto")

    def pause(self):
        self.process.pause()

    def resume(self):
        self.process.resume()

    def subscribe(self, *topics, qos=2, username=None, password=None):
        subscriber = Subscriber(self.port, topics, qos, username, password)
        self.subscribers.append(subscriber)
        return subscriber

    def close(self):
        for subscriber in self.subscribers:
            subscriber.close()
        self.subscribers.clear()
        self.process.kill()


class Subscriber:
    """Subscribes with MQTT 5 and comes back when the broker does."""

    def __init__(self, port, topics, qos, username=None, password=None):
        self.messages = []
        self.subscribed = threading.Event()
        self.topics = [(topic, qos) for topic in topics]
        self.client = mqtt.Client(protocol=mqtt.MQTTv5)
        if username:
            self.client.username_pw_set(username, password)
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_disconnect = lambda *_: self.subscribed.clear()
        self.client.on_message = lambda _client, _data, message: self.messages.append(Message(message))
        self.client.reconnect_delay_set(0.05, 0.2)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.wait_subscribed()

    def wait_subscribed(self, timeout=10):
        """After a restart of the broker: until it answered SUBSCRIBE again."""
        assert self.subscribed.wait(timeout), "mosquitto does not answer SUBSCRIBE"

    def _on_connect(self, client, _data, _flags, _reason, _properties=None):
        client.subscribe([(topic, mqtt.SubscribeOptions(qos=qos, retainAsPublished=True))
                          for topic, qos in self.topics])

    def until(self, condition, timeout=30, what="the messages"):
        """Waits until condition(messages); fails when that takes longer."""
        wait_until(lambda: condition(self.messages), timeout,
                   lambda: f"{what}; {len(self.messages)} came, the last: "
                           f"{[message.event_id for message in self.messages[-10:]]}")
        return list(self.messages)

    def wait(self, count, timeout=30):
        return self.until(lambda messages: len(messages) >= count, timeout, f"{count} messages")

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()
        self.subscribed.clear()
