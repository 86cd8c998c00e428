"""hosts(5): names of this machine, as the file is now."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.upstream.discovery.hosts_file import MAX_HOSTS_BYTES, HostsFile, parse_hosts

TEXT = """
# a comment
127.0.0.1   localhost  loop   # behind it
::1 localhost
10.0.0.1  A.Example a.example
10.0.0.2  a.example.
not-an-address b.example
10.0.0.3
"""


def test_each_name_has_its_addresses() -> None:
    assert parse_hosts(TEXT) == {
        "localhost": ["127.0.0.1", "::1"],
        "loop": ["127.0.0.1"],
        "a.example": ["10.0.0.1", "10.0.0.2"],
    }


@given(st.text(max_size=300))
def test_any_text_can_be_read(text: str) -> None:
    for name, addresses in parse_hosts(text).items():
        assert name == name.lower()
        assert len(set(addresses)) == len(addresses) > 0


def test_it_is_read_again_when_it_is_another(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    hosts = HostsFile(str(path))
    assert hosts.find("a") == ()
    path.write_text("10.0.0.1 a\n")
    assert hosts.find("A.") == ["10.0.0.1"]
    other = tmp_path / "other"
    other.write_text("10.0.0.2 a\n")
    os.replace(other, path)
    assert hosts.find("a") == ["10.0.0.2"]
    path.unlink()
    assert hosts.find("a") == ()


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST.", "x.localhost"])
def test_localhost_is_known_without_a_file(name: str) -> None:
    assert HostsFile("").find(name) == ("127.0.0.1", "::1")
    assert HostsFile("").find("localhost.example") == ()


def test_of_a_large_file_the_beginning_counts(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("10.0.0.1 a\n" + "#" * MAX_HOSTS_BYTES + "\n10.0.0.2 b\n")
    hosts = HostsFile(str(path))
    assert hosts.find("a") == ["10.0.0.1"]
    assert hosts.find("b") == ()
