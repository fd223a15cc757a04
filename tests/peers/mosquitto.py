"""A real mosquitto on a free port, and a subscriber that keeps everything it gets."""
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
        self.attributes = dict(getattr(properties, "UserProperty", []) or [])
        self.content_type = getattr(properties, "ContentType", None)
        self.format_indicator = getattr(properties, "PayloadFormatIndicator", None)


class Mosquitto:
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
        self.config.write_text(f"listener {self.port} 127.0.0.1\npersistence false\nmax_queued_messages 0\n"
                               f"max_inflight_messages 0\nuser root\n{config}")

    @property
    def url(self):
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self):
        self.process.start()
        wait_until(self._answers, 20, lambda: f"mosquitto answers:\n{self.process.log()[-2000:]}")
        return self

    def _answers(self):
        self.process.check()
        probe = mqtt.Client(protocol=mqtt.MQTTv5)
        try:
            probe.connect("127.0.0.1", self.port)
            probe.disconnect()
            return True
        except OSError:
            return False

    def stop(self):
        self.process.stop()

    def kill(self):
        self.process.kill()

    def subscribe(self, *topics, qos=2):
        subscriber = Subscriber(self.port, topics, qos)
        self.subscribers.append(subscriber)
        return subscriber

    def close(self):
        for subscriber in self.subscribers:
            subscriber.close()
        if self.process.is_running:
            self.process.stop()


class Subscriber:
    """Subscribes with MQTT 5 and comes back when the broker does."""

    def __init__(self, port, topics, qos):
        self.messages = []
        self.subscribed = threading.Event()
        self.topics = [(topic, qos) for topic in topics]
        self.client = mqtt.Client(protocol=mqtt.MQTTv5)
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_message = lambda _client, _data, message: self.messages.append(Message(message))
        self.client.reconnect_delay_set(0.05, 0.2)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self.subscribed.wait(10), "mosquitto does not answer SUBSCRIBE"

    def _on_connect(self, client, _data, _flags, _reason, _properties=None):
        client.subscribe([(topic, mqtt.SubscribeOptions(qos=qos, retainAsPublished=True))
                          for topic, qos in self.topics])

    def wait(self, count, timeout=30):
        wait_until(lambda: len(self.messages) >= count, timeout,
                   lambda: f"{count} MQTT messages, {len(self.messages)} came: "
                           f"{[m.attributes.get('id') for m in self.messages][:20]}")
        return list(self.messages)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()
