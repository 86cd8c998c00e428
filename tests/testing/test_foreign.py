"""The strangers are many, and each is another; ``tests/codecs/test_claims.py`` shows them to every codec."""

from __future__ import annotations

from xproxy.testing.foreign import BINARY, FOREIGN, TEXT


def test_there_are_many_strangers_and_each_is_another() -> None:
    assert (*BINARY, *TEXT) == FOREIGN
    assert len({foreign.data for foreign in FOREIGN}) == len(FOREIGN) >= 100
    assert len({foreign.name for foreign in FOREIGN}) == len(FOREIGN)
    assert all(foreign.data and foreign.source for foreign in FOREIGN)


def test_messages_that_say_how_long_they_are_are_so_long() -> None:
    by_name = {foreign.name: foreign.data for foreign in FOREIGN}
    for size in (257, 300, 513):
        data = by_name[f"MongoDB OP_MSG hello of {size} bytes"]
        assert len(data) == int.from_bytes(data[:4], "little") == size
    for name in ("Kafka Produce", "RocketMQ with a body", "Pulsar CONNECT"):
        assert int.from_bytes(by_name[name][:4]) == len(by_name[name]) - 4, name
