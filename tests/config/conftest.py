"""A registry with filters of every kind of field, and codecs that exist by name only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar, Literal

import attrs
import pytest
from attrs import field
from attrs.validators import ge

from xproxy.config.findings import InvalidConfig
from xproxy.config.load import load_text
from xproxy.model.limits import Duration, Size
from xproxy.model.status import Status
from xproxy.registry import CODECS, FILTERS, LOAD_BALANCERS, Entry, Registry
from xproxy.stream.exchange import Handler, Request, Response


class Passing:
    """What makes a class a filter."""

    def __call__(self, request: Request, call_next: Handler) -> Awaitable[Response]:
        """Hand it on."""
        return call_next(request)


@attrs.frozen(kw_only=True)
class Again(Passing):
    """Try again."""

    on: tuple[Literal["reset", "connect-failure"], ...] = ("reset",)
    """When."""
    attempts: int = field(default=1, validator=ge(1))
    """How often."""
    base: Duration = field(default=Duration(0.025))
    statuses: frozenset[Status] = frozenset()
    largest: Size | None = None
    _now: Callable[[], float] | None = None


@attrs.frozen(kw_only=True)
class Answer(Passing):
    """Answer at once."""

    terminal: ClassVar[bool] = True
    status: int
    body: bytes = b""
    password: str = "hunter2"
    token_file: str = field(default="t", metadata={"secret": True})


@attrs.frozen(kw_only=True)
class Nested(Passing):
    """Hold another class."""

    inner: Answer | None = None
    source: str = field(default="", alias="origin")

    def __attrs_post_init__(self) -> None:
        if self.source == "nowhere":
            raise ValueError("origin leads nowhere")


def plain_function() -> None:
    """No attrs class."""


@attrs.frozen
class Odd(Passing):
    """Has a field that no YAML can hold."""

    call: Callable[[], None] | None = None


def _entry(group: str, name: str, attribute: str = "") -> Entry:
    return Entry(
        group=group,
        name=name,
        distribution="xproxy",
        version="1.0",
        module=__name__ if attribute else "nowhere.to.be.found",
        attribute=attribute,
    )


@pytest.fixture
def registry() -> Registry:
    """Names of built-in things, and the filters of this file."""
    return Registry(
        [
            *(_entry(CODECS, name) for name in ("bolt", "http1", "opaque")),
            *(_entry(LOAD_BALANCERS, name) for name in ("least_request", "random", "round_robin")),
            _entry(FILTERS, "again", "Again"),
            _entry(FILTERS, "answer", "Answer"),
            _entry(FILTERS, "broken"),
            _entry(FILTERS, "function", "plain_function"),
            _entry(FILTERS, "nested", "Nested"),
            _entry(FILTERS, "odd", "Odd"),
        ]
    )


@pytest.fixture
def findings(registry: Registry) -> Callable[[str], list[str]]:
    """Read a text that must be wrong; returns what is found, without the file's name."""

    def read(text: str) -> list[str]:
        with pytest.raises(InvalidConfig) as caught:
            load_text(text, "f", registry)
        assert [str(f) for f in caught.value.findings] == str(caught.value).split("\n")
        return [str(f).removeprefix("f:") for f in caught.value.findings]

    return read
