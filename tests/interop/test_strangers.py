"""Real clients of protocols that no codec knows, on an ``auto`` port: every byte of theirs reaches the fallback.

A relay before the proxy and one behind it keep what was said; the servers are real, or answer as little as their
clients need.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import bson
import paho.mqtt.client as mqtt
import pika
import pymemcache
import pymongo
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from pika import frame as amqp
from pika import spec
from pymongo.driver_info import DriverInfo

from tests.interop.redis_server import redis_server
from tests.interop.tap import Tap, tap
from tests.process.product import PATIENCE, Product, eventually, product, unused_port

pytestmark = pytest.mark.slow

Answer = Callable[[bytearray], bytes]
"""Takes what it understands from the beginning of what has come, and returns what is said to that."""


@attrs.frozen
class Scene:
    """A client's way through the proxy to its server."""

    proxy: Product
    front: Tap
    back: Tap

    @property
    def port(self) -> int:
        return self.front.port

    def unchanged(self) -> None:
        """Check that all that was said has arrived, connection by connection, and that no codec was asked."""
        eventually(lambda: spoken(self.front) == spoken(self.back), "every byte arrives")
        assert spoken(self.front)
        stats = self.proxy.stats()
        assert stats["listener.edge.downstream_cx_protocol_error"] == 0
        assert stats["cluster.raw.upstream_rq_total"] == len(self.back.said)
        assert not stats["cluster.web.upstream_rq_total"]


def spoken(between: Tap) -> list[bytes]:
    """Return what was said on connections on which anything was; in an order that both ends have."""
    return sorted(bytes(one.data) for one in between.said if one.data)


@contextmanager
def scene(port: int, work: Path) -> Iterator[Scene]:
    with tap(port) as back:
        text = (
            "listeners:\n"
            "  - {name: edge, address: '127.0.0.1:0', routes: main, fallback: {cluster: raw}}\n"
            "routes: {main: [{cluster: web}]}\n"
            "clusters:\n"
            f"  raw: {{endpoints: ['127.0.0.1:{back.port}']}}\n"
            f"  web: {{endpoints: ['127.0.0.1:{unused_port()}']}}\n"
        )
        with product(text, work) as proxy, tap(proxy.port) as front:
            yield Scene(proxy, front, back)


@contextmanager
def answering(answer: Answer) -> Iterator[int]:
    """Run a server; gives its port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            held = bytearray()
            with contextlib.suppress(OSError):
                while data := self.request.recv(65536):
                    held += data
                    if said := answer(held):
                        self.request.sendall(said)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(PATIENCE)


# ---- Redis


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with redis_server(tmp_path_factory.mktemp("redis")) as port:
        yield port


def run(*command: str, said: str = "") -> str:
    done = subprocess.run(
        command, input=said, capture_output=True, text=True, timeout=2 * PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.tool("redis-server")
@pytest.mark.tool("redis-cli")
@pytest.mark.parametrize("version", ["-2", "-3"])
def test_redis_cli(version: str, redis: int, tmp_path: Path) -> None:
    commands = (
        "SET name value\nGET name\nMULTI\nINCR count\nEXEC\nDEL count\nECHO 'GET / HTTP/1.1'\n"
    )
    direct = run("redis-cli", version, "-p", str(redis), said=commands)
    assert "value" in direct
    with scene(redis, tmp_path) as found:
        assert run("redis-cli", version, "-p", str(found.port), said=commands) == direct
        found.unchanged()


@pytest.mark.tool("redis-server")
@pytest.mark.tool("redis-benchmark")
def test_redis_in_inline_commands(redis: int, tmp_path: Path) -> None:
    with scene(redis, tmp_path) as found:
        tests = ("-t", "ping_inline,ping_mbulk,set,get,lpush", "-n", "200", "-c", "5", "-q")
        told = run("redis-benchmark", "-p", str(found.port), *tests)
        assert "PING_INLINE" in told
        found.unchanged()
        assert any(one.startswith(b"PING\r\n") for one in spoken(found.back))


@pytest.mark.tool("redis-server")
@pytest.mark.parametrize("first", ["PING", "GET name", "SET name value", "INFO server"])
def test_redis_as_telnet_speaks_to_it(first: str, redis: int, tmp_path: Path) -> None:
    with scene(redis, tmp_path) as found:
        address = ("127.0.0.1", found.port)
        with socket.create_connection(address, PATIENCE) as client:
            client.sendall(f"{first}\r\nQUIT\r\n".encode())
            said = b""
            while data := client.recv(65536):
                said += data
        assert said.endswith(b"+OK\r\n")
        found.unchanged()


# ---- memcached


def memcached(held: bytearray) -> bytes:
    said = b""
    while b"\r\n" in held:
        line, _, rest = bytes(held).partition(b"\r\n")
        verb, *words = line.split()
        if verb == b"set":
            size = int(words[3])
            if len(rest) < size + 2:
                break
            STORED[words[0]] = rest[:size]
            rest = rest[size + 2 :]
            said += b"STORED\r\n"
        elif verb in (b"get", b"gets"):
            for key in words:
                if key in STORED:
                    value = STORED[key]
                    said += b"VALUE %b 0 %d\r\n%b\r\n" % (key, len(value), value)
            said += b"END\r\n"
        elif verb == b"version":
            said += b"VERSION 1.6\r\n"
        else:
            said += b"ERROR\r\n"
        held[:] = rest
    return said


STORED: Final[dict[bytes, bytes]] = {}


@pytest.mark.parametrize("first", ["set", "get", "version"])
def test_pymemcache(first: str, tmp_path: Path) -> None:
    with answering(memcached) as port, scene(port, tmp_path) as found:
        client = pymemcache.Client(("127.0.0.1", found.port), timeout=PATIENCE)
        with contextlib.closing(client):
            if first == "get":
                assert client.get("nothing") is None
            elif first == "version":
                assert client.version() == b"1.6"
            client.set("key", b"\r\nvalue" * 5000, noreply=False)
            assert client.get("key") == b"\r\nvalue" * 5000
        found.unchanged()


# ---- MQTT


def broker(held: bytearray) -> bytes:
    said = b""
    while len(held) >= 2:
        size, shift, at = 0, 0, 1
        while True:
            size |= (held[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if held[at - 1] < 128:
                break
        packet, kind = bytes(held[at : at + size]), held[0] >> 4
        if len(held) < at + size:
            break
        del held[: at + size]
        if kind == 1:  # CONNECT; its version stands behind the name
            said += b"\x20\3\0\0\0" if packet[6] == 5 else b"\x20\2\0\0"
        elif kind == 3:  # PUBLISH, at least once
            length = int.from_bytes(packet[:2])
            said += b"\x40\2" + packet[2 + length : 4 + length]
    return said


@pytest.mark.parametrize("version", list(MQTTProtocolVersion))
def test_paho_mqtt(version: MQTTProtocolVersion, tmp_path: Path) -> None:
    with answering(broker) as port, scene(port, tmp_path) as found:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=version)
        client.connect_timeout = PATIENCE
        client.connect("127.0.0.1", found.port)
        client.loop_start()
        told = client.publish("a/b", bytes(30_000), qos=1)
        told.wait_for_publish(PATIENCE)
        assert told.is_published()
        client.disconnect()
        client.loop_stop()
        found.unchanged()


# ---- AMQP


def exchange(held: bytearray) -> bytes:
    if held.startswith(b"AMQP"):
        del held[:8]
        start = spec.Connection.Start(server_properties={}, mechanisms="PLAIN", locales="en_US")
        return bytes(amqp.Method(0, start).marshal())
    said = b""
    while True:
        taken, found = amqp.decode_frame(bytes(held))
        if found is None:
            return said
        del held[:taken]
        answers: dict[type[object], Any] = {  # Any: pika has no types
            spec.Connection.StartOk: spec.Connection.Tune(10, 131072, 0),
            spec.Connection.Open: spec.Connection.OpenOk(),
            spec.Connection.Close: spec.Connection.CloseOk(),
            spec.Channel.Open: spec.Channel.OpenOk(),
            spec.Channel.Close: spec.Channel.CloseOk(),
        }
        answer = answers.get(type(getattr(found, "method", None)))
        if answer is not None:
            said += amqp.Method(found.channel_number, answer).marshal()


def test_pika(tmp_path: Path) -> None:
    with answering(exchange) as port, scene(port, tmp_path) as found:
        parameters = pika.ConnectionParameters(
            "127.0.0.1", found.port, socket_timeout=PATIENCE, blocked_connection_timeout=PATIENCE
        )
        with pika.BlockingConnection(parameters) as connection:
            connection.channel().basic_publish("", "queue", b"GET / HTTP/1.1\r\n\r\n")
        found.unchanged()


# ---- MongoDB


def mongod(held: bytearray) -> bytes:
    said = b""
    while len(held) >= 16 and len(held) >= int.from_bytes(held[:4], "little"):
        size = int.from_bytes(held[:4], "little")
        asked, kind = bytes(held[4:8]), int.from_bytes(held[12:16], "little")
        del held[:size]
        document = bson.encode(
            {
                "ok": 1.0,
                "ismaster": True,
                "helloOk": True,
                "minWireVersion": 0,
                "maxWireVersion": 21,
                "maxBsonObjectSize": 1 << 24,
                "maxMessageSizeBytes": 48_000_000,
                "maxWriteBatchSize": 100_000,
            }
        )
        if kind == 2004:  # OP_QUERY, answered by OP_REPLY
            kind, body = 1, bytes(16) + (1).to_bytes(4, "little") + document
        else:  # OP_MSG
            body = bytes(5) + document
        head = (16 + len(body)).to_bytes(4, "little") + bytes(4) + asked
        said += head + kind.to_bytes(4, "little") + body
    return said


def test_pymongo(tmp_path: Path) -> None:
    """Its first message is as long as its client's names make it: of 513 bytes it begins as Bolt does."""
    with answering(mongod) as port, scene(port, tmp_path) as found:

        def hello(name: str, platform: str) -> int:
            """Connect, and return the length of the first message."""
            before = len(found.front.said)
            client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(  # Any: a document
                "127.0.0.1",
                found.port,
                appname=name,
                driver=DriverInfo("x", platform=platform),
                directConnection=True,
                serverSelectionTimeoutMS=int(PATIENCE * 1000),
            )
            with client:
                assert client.admin.command("ping")["ok"] == 1.0
            return int.from_bytes(found.front.said[before].data[:4], "little")

        missing = 513 - hello("a", "p")
        in_name = min(missing, 100)
        assert hello("a" * (1 + in_name), "p" * (1 + missing - in_name)) == 513
        found.unchanged()


# ---- Kafka

TOPIC: Final = b"\0\5topic"


def kafka_broker(port: Callable[[], int]) -> Answer:
    """Return a broker of version 0.9 with one topic, that says it is at ``port``."""

    def answer(held: bytearray) -> bytes:
        said = b""
        while len(held) >= 4 and len(held) >= 4 + int.from_bytes(held[:4]):
            size = int.from_bytes(held[:4])
            request, correlation = bytes(held[4:8]), bytes(held[8:12])
            del held[: 4 + size]
            if request == b"\0\3\0\0":  # Metadata
                body = struct.pack(">iih9si", 1, 1, 9, b"127.0.0.1", port())
                body += struct.pack(">ih", 1, 0) + TOPIC + struct.pack(">i", 1)
                body += struct.pack(">hiiiiii", 0, 0, 1, 1, 1, 1, 1)
            elif request == b"\0\0\0\1":  # Produce
                body = struct.pack(">i", 1) + TOPIC + struct.pack(">iihqi", 1, 0, 0, 7, 0)
            else:
                raise AssertionError(f"an unforeseen request {request!r}")
            said += struct.pack(">i", 4 + len(body)) + correlation + body
        return said

    return answer


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # its own, at import
def test_kafka_python(tmp_path: Path) -> None:
    import kafka

    ports: list[int] = []
    with answering(kafka_broker(lambda: ports[0])) as port, scene(port, tmp_path) as found:
        ports.append(found.port)
        # This version is not asked for, so a connection may begin with Produce.
        producer = kafka.KafkaProducer(
            bootstrap_servers=f"127.0.0.1:{found.port}",
            api_version=(0, 9),
            request_timeout_ms=int(PATIENCE * 1000),
            max_block_ms=int(PATIENCE * 1000),
        )
        with contextlib.closing(producer):
            sent = [producer.send("topic", bytes(1000)) for _ in range(20)]
            assert {future.get(PATIENCE).offset for future in sent} >= {7}
        found.unchanged()
        assert any(one.startswith(b"\0\0\0\1", 4) for one in spoken(found.back))
