from __future__ import annotations

import attrs
import pytest

from tests.live import registry
from xproxy.model.address import Address
from xproxy.transport.stream import ByteStream
from xproxy.upstream.agreement import Agreement, OtherProtocol
from xproxy.upstream.endpoint import Endpoint

PLUGINS = [plugin for plugin in registry().codecs() if plugin.traits.alpn]
BEST, OTHER = PLUGINS
HERE = Endpoint(Address("127.0.0.1", 1), 1, {})


@attrs.define(eq=False)
class FakeStream:
    closed: bool = False

    def close(self) -> None:
        self.closed = True


def stream() -> tuple[FakeStream, ByteStream]:
    found = FakeStream()
    return found, found  # type: ignore[return-value]  # nothing but close() is called


def test_what_is_offered_is_the_best_first() -> None:
    agreement = Agreement(PLUGINS)
    assert agreement.alpn == (*BEST.traits.alpn, *OTHER.traits.alpn)
    assert agreement.of(HERE) is BEST


def test_what_was_asked_for_and_chosen_goes_on() -> None:
    agreement = Agreement(PLUGINS)
    assert agreement.take(HERE, BEST.name) is None
    agreement.settle(HERE, BEST.traits.alpn[0], stream()[1], BEST.name)
    assert agreement.of(HERE) is BEST


@pytest.mark.parametrize("chosen", [OTHER.traits.alpn[0], None])
def test_another_choice_keeps_the_connection_for_whoever_asks_rightly(chosen: str | None) -> None:
    agreement = Agreement(PLUGINS)
    _, made = stream()
    with pytest.raises(OtherProtocol):
        agreement.settle(HERE, chosen, made, BEST.name)
    assert agreement.of(HERE) is OTHER
    with pytest.raises(OtherProtocol):
        agreement.take(HERE, BEST.name)
    assert agreement.take(HERE, OTHER.name) is made
    assert agreement.take(HERE, OTHER.name) is None


def test_a_connection_that_nobody_takes_is_closed() -> None:
    agreement = Agreement(PLUGINS)
    fakes = [stream(), stream()]
    for _, made in fakes:
        with pytest.raises(OtherProtocol):
            agreement.settle(HERE, None, made, BEST.name)
    assert [fake.closed for fake, _ in fakes] == [True, False], "one is kept for each endpoint"
    agreement.close()
    assert fakes[1][0].closed


def test_nothing_is_kept_of_an_endpoint_that_is_forgotten() -> None:
    agreement = Agreement(PLUGINS)
    fake, made = stream()
    with pytest.raises(OtherProtocol):
        agreement.settle(HERE, None, made, BEST.name)
    agreement.forget(HERE)
    agreement.forget(HERE)
    assert fake.closed
    assert agreement.of(HERE) is BEST


def test_what_was_chosen_is_known_elsewhere() -> None:
    agreement, elsewhere = Agreement(PLUGINS), Agreement(PLUGINS)
    again = Endpoint(HERE.address)
    assert agreement.chosen([HERE]) == {}
    agreement.settle(HERE, OTHER.traits.alpn[0], stream()[1], OTHER.name)
    assert agreement.chosen([HERE, Endpoint(Address("127.0.0.1", 2))]) == {
        "127.0.0.1:1": OTHER.name
    }
    elsewhere.learn([again], agreement.chosen([HERE]))
    assert elsewhere.of(again) is OTHER
    elsewhere.learn([again], {"127.0.0.1:1": "unheard of", "127.0.0.1:9": BEST.name})
    assert elsewhere.of(again) is OTHER
