"""Addresses that exclude one another, and what this machine does not have."""

from __future__ import annotations

import socket
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.config.load import load_text
from xproxy.config.partial import UNREAD
from xproxy.config.places import clashes, not_here
from xproxy.config.schema import AdminConfig, Config, ListenerConfig
from xproxy.model.address import Address
from xproxy.registry import default_registry
from xproxy.transport.listener import ListenError, open_listener


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ("127.0.0.1:80", "127.0.0.1:80", True),
        ("127.0.0.1:80", "0.0.0.0:80", True),
        ("0.0.0.0:80", "localhost:80", True),
        ("localhost:80", "127.0.0.1:80", True),
        ("[::]:80", "[::1]:80", True),
        ("unix:/a", "unix:/a", True),
        ("127.0.0.1:80", "127.0.0.1:81", False),
        ("127.0.0.1:80", "127.0.0.2:80", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
        ("[::]:80", "0.0.0.0:80", False),
        ("unix:/a", "unix:/b", False),
    ],
)
def test_two_of_one_place(one: str, other: str, clash: bool) -> None:
    assert len(list(clashes(listening([one, other])))) == clash
    assert len(list(clashes(listening([one], other)))) == clash


def listening(addresses: list[str], admin: str | None = None) -> Config:
    """Return a configuration of which only the addresses count."""
    return Config(
        listeners=tuple(ListenerConfig(name="a", address=Address.parse(one)) for one in addresses),
        admin=None if admin is None else AdminConfig(address=Address.parse(admin)),
    )


def test_an_address_that_could_not_be_read_is_in_nobodys_way() -> None:
    config = listening(["127.0.0.1:80"])
    for unread in (UNREAD, attrs.evolve(config.listeners[0], address=UNREAD)):
        assert not list(clashes(attrs.evolve(config, listeners=(*config.listeners, unread))))


HOSTS = ["0.0.0.0", "127.0.0.1", "localhost", "a.test", "[::]", "[::1]"]


@given(st.lists(st.tuples(st.sampled_from(HOSTS), st.sampled_from([1, 2])), max_size=8))
def test_the_first_that_is_in_the_way_is_named(wanted: list[tuple[str, int]]) -> None:
    expected = []
    for index, (host, port) in enumerate(wanted):
        for before, (other, its_port) in enumerate(wanted[:index]):
            one, two = ("127.0.0.1" if one == "localhost" else one for one in (host, other))
            same = one == two or ((":" in one) == (":" in two) and {one, two} & {"0.0.0.0", "[::]"})
            if port == its_port and same:
                expected.append((index, f"is taken by listeners[{before}] already"))
                break
    config = listening([f"{host}:{port}" for host, port in wanted or [("a", 0)]])
    found = [(one.at[1], one.message) for one in clashes(config)]
    assert [index for index, _ in found] == [index for index, _ in expected]
    assert all(said in message for (_, message), (_, said) in zip(found, expected, strict=True))


def test_the_admins_own_address_counts_unwritten() -> None:
    (problem,) = clashes(attrs.evolve(listening(["0.0.0.0:9901"]), admin=AdminConfig()))
    assert problem.at == ("admin", "address")
    assert "taken by listeners[0] already, which listens on 0.0.0.0:9901" in problem.message


def test_a_port_somebody_has_is_no_mistake_and_nothing_is_left_behind(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        text = f"""\
listeners:
  - {{name: a, address: "127.0.0.1:{taken.getsockname()[1]}", routes: r,
      filters: [{{name: access_log, path: {tmp_path}/log}}]}}
  - {{name: b, address: "unix:{tmp_path}/b.sock", routes: r}}
routes: {{r: [{{filters: [{{name: direct_response, status: 418}}]}}]}}
clusters: {{}}
"""
        config = load_text(text, "f", default_registry())
        assert list(not_here(config)) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0", "8.8.8.8:0"])
def test_what_can_be_listened_on_is_what_a_listener_can(address: str) -> None:
    text = f"""\
listeners: [{{name: a, address: "{address}", routes: r}}]
routes: {{r: [{{filters: [{{name: direct_response, status: 418}}]}}]}}
clusters: {{}}
"""
    config = load_text(text, "f", default_registry())
    refused: list[str] = []
    try:
        open_listener(config.listeners[0].address, backlog=1).close()
    except ListenError as error:
        refused.append(str(error))
    assert [message for _, message in not_here(config)] == refused
