"""Failures of the proxy as a user sees them."""

from __future__ import annotations

import socket

import click
import pytest

from xproxy.cli.serving import leaves, run_proxy
from xproxy.config.load import simple
from xproxy.registry import default_registry


def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = simple(f"127.0.0.1:{taken.getsockname()[1]}", ["127.0.0.1:9"])
        with pytest.raises(click.ClickException, match=r"cannot listen on 127\.0\.0\.1") as caught:
            run_proxy(config, default_registry(), None)
        assert caught.value.exit_code == 1


def test_leaves() -> None:
    one, two = OSError(1), ValueError(2)
    assert list(leaves([one, ExceptionGroup("", [ExceptionGroup("", [two])])])) == [one, two]
