"""The registry is lazy, and refuses what cannot be used, by the name of its distribution."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Container, Sequence
from pathlib import Path
from random import Random
from types import ModuleType

import attrs
import pytest

from xproxy.codecs.api import MAYBE, Codec, CodecPlugin, Hint, Verdict
from xproxy.codecs.bolt.plugin import PLUGIN as BOLT
from xproxy.codecs.opaque.plugin import PLUGIN as OPAQUE
from xproxy.model.errors import PluginError
from xproxy.model.frames import Frame
from xproxy.model.limits import Limits
from xproxy.model.status import Status
from xproxy.model.traits import Role, Sharing, Traits
from xproxy.registry import (
    CODECS,
    FILTERS,
    GROUPS,
    LOAD_BALANCERS,
    TRACERS,
    Entry,
    Registry,
    default_registry,
)
from xproxy.stream.exchange import Handler, Request, Response
from xproxy.upstream.balance.api import Picker
from xproxy.upstream.endpoint import Endpoint


def entry(
    name: str, value: str, *, group: str = CODECS, dist: str = "acme-codecs", version: str = "1.2"
) -> Entry:
    return Entry.parse(group, name, value, dist, version)


BUILT_IN = (
    entry("bolt", "xproxy.codecs.bolt.plugin:PLUGIN", dist="xproxy"),
    entry("opaque", "xproxy.codecs.opaque.plugin:PLUGIN", dist="xproxy"),
)


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, object], Registry]:
    """Return a registry with one codec, as a package installed it."""

    def make(name: str, plugin: object) -> Registry:
        module = ModuleType("acme_codec")
        module.PLUGIN = plugin  # type: ignore[attr-defined]  # that is what a plugin's module is for
        monkeypatch.setitem(sys.modules, "acme_codec", module)
        return Registry([entry(name, "acme_codec:PLUGIN")])

    return make


@attrs.define(eq=False)
class BareCodec:
    """Says nothing, and can save nothing."""

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        return ()

    def send(self, frame: Frame) -> bytes:
        return b"x"


@attrs.define(eq=False)
class Bare:
    """The least that is a codec plugin."""

    name: str = "bare"
    traits: Traits = attrs.field(factory=lambda: Traits(sharing=Sharing.MESSAGES, reverse=True))

    def detect(self, prefix: bytes, hint: Hint) -> Verdict:
        return MAYBE

    def open(self, role: Role, limits: Limits) -> Codec:
        return BareCodec()


def with_traits(traits: object) -> Bare:
    plugin = Bare()
    plugin.traits = traits  # type: ignore[assignment]  # what a plugin's author can get wrong
    return plugin


class NoCodec(Bare):
    def open(self, role: Role, limits: Limits) -> Codec:
        return object()  # type: ignore[return-value]  # the lie under test


class Failing(Bare):
    def open(self, role: Role, limits: Limits) -> Codec:
        raise RuntimeError("no licence")


class Restoring(Bare):
    def restore(self, state: bytes, role: Role, limits: Limits) -> Codec:
        return BareCodec()


class HalfStatus(Bare):
    def status_of(self, native_status: int) -> Status:
        return {0: Status.OK}.get(native_status)  # type: ignore[return-value]  # the lie under test


def test_listing_names_imports_nothing() -> None:
    registry = Registry([entry("nowhere", "xproxy_no_such_module:PLUGIN"), *BUILT_IN])
    assert registry.names(CODECS) == ["bolt", "nowhere", "opaque"]
    assert [str(e) for e in registry.entries(CODECS)][
        1
    ] == "xproxy.codecs 'nowhere' of acme-codecs 1.2"
    assert registry.entries(CODECS)[0].module == "xproxy.codecs.bolt.plugin"


def test_a_plugin_is_loaded_once() -> None:
    registry = Registry(BUILT_IN)
    assert registry.codec("bolt") is BOLT
    assert registry.load(CODECS, "bolt") is BOLT


def test_codecs_come_by_rank() -> None:
    found: tuple[CodecPlugin, ...] = Registry(reversed(BUILT_IN)).codecs()
    assert found == (BOLT, OPAQUE)


def test_any_object_of_another_group_is_loaded() -> None:
    registry = Registry([entry("order", "collections:OrderedDict.fromkeys", group=TRACERS)])
    assert callable(registry.load(TRACERS, "order"))


def test_entries_of_foreign_groups_are_ignored() -> None:
    assert Registry([entry("x", "y:Z", group="console_scripts")]).names(CODECS) == []


def test_two_distributions_cannot_have_one_name() -> None:
    twice = [entry("bolt", "a:P", dist="one"), entry("bolt", "b:P", dist="two", version="9")]
    with pytest.raises(PluginError, match=r"'bolt' is claimed twice: by one 1.2 .* by two 9"):
        Registry(twice)
    assert Registry([twice[0], twice[0]]).names(CODECS) == ["bolt"]


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(PluginError, match="no 'blot': did you mean 'bolt'"):
        Registry(BUILT_IN).codec("blot")
    with pytest.raises(PluginError, match="installed: bolt, opaque"):
        Registry(BUILT_IN).codec("zzz")
    with pytest.raises(PluginError, match="no such plugin group"):
        Registry(()).names("xproxy.codec")


@pytest.mark.parametrize("value", ["xproxy_no_such_module:PLUGIN", "collections:Nothing"])
def test_a_failed_import_names_the_distribution(value: str) -> None:
    with pytest.raises(PluginError, match=r"'x' of acme-codecs 1\.2 cannot be imported"):
        Registry([entry("x", value)]).codec("x")


@pytest.mark.parametrize(
    ("plugin", "complaint"),
    [
        (Bare(name="other"), "it calls itself 'other', its entry point says 'bare'"),
        (object(), r"it has no detect\(\); it has no open\(\); its traits are NoneType"),
        (with_traits("serial"), "its traits are str, not Traits"),
        (with_traits(Traits(sharing=Sharing.MESSAGES, api=2)), "api version 2, this is 1"),
        (with_traits(Traits(sharing="serial")), "not a Sharing"),  # type: ignore[arg-type]  # a lie
        (with_traits(Traits(sharing=Sharing.MESSAGES, trailers=True)), "neither trailers nor"),
        (with_traits(Traits(sharing=Sharing.SERIAL, reverse=True)), "calls both ways"),
        (with_traits(Traits(sharing=Sharing.MESSAGES, headless=True)), "needs SERIAL"),
        (with_traits(Traits(sharing=Sharing.SERIAL, headless=True)), "it gave nothing"),
        (with_traits(Traits(sharing=Sharing.MESSAGES)), "its server side can call"),
        (NoCodec(), "gave object, which is no codec"),
        (Failing(), "its codec failed: RuntimeError: no licence"),
        (Restoring(), r"it has restore\(\) but no snapshot\(\)"),
        (HalfStatus(), r"status_of\(\) is not total"),
    ],
)
def test_a_plugin_that_lies_is_refused(
    offer: Callable[[str, object], Registry], plugin: object, complaint: str
) -> None:
    with pytest.raises(PluginError, match=complaint) as caught:
        offer("bare", plugin).codec("bare")
    assert "'bare' of acme-codecs 1.2" in str(caught.value)


@attrs.frozen
class Passing:
    """A filter."""

    def __call__(self, request: Request, call_next: Handler) -> Awaitable[Response]:
        return call_next(request)


@attrs.frozen
class NotCallable:
    """Lacks the point of a filter."""


@attrs.frozen
class OldFilter:
    """Takes too little."""

    def __call__(self, request: Request) -> None:
        """Do nothing."""


class NoAttrs:
    def __call__(self, request: Request, call_next: Handler) -> Awaitable[Response]:
        return call_next(request)


class First:
    """A load balancer."""

    def __init__(self, random: Random) -> None:
        """Need no randomness."""

    def picker(self, endpoints: Sequence[Endpoint], previous: Picker | None) -> FirstPicker:
        return FirstPicker(endpoints)


class FirstPicker:
    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = endpoints

    def pick(self, request: Request, avoid: Container[object]) -> Endpoint:
        return self._endpoints[0]


class OldBalancer:
    """Was made with endpoints, and picked itself."""

    def __init__(self, endpoints: Sequence[Endpoint], random: Random) -> None:
        self._endpoints = endpoints

    def pick(self, request: Request) -> Endpoint:
        return self._endpoints[0]


class NoRandom:
    def picker(self, endpoints: Sequence[Endpoint], previous: Picker | None) -> FirstPicker:
        raise NotImplementedError


class MakesNothing:
    def __init__(self, random: Random) -> None:
        """Take all."""


class ForgetsThePrevious(First):
    def picker(self, endpoints: Sequence[Endpoint]) -> FirstPicker:  # type: ignore[override]  # the mistake under test
        return FirstPicker(endpoints)


def first(random: Random) -> First:
    return First(random)


@pytest.mark.parametrize(
    ("group", "plugin", "complaint"),
    [
        (FILTERS, first, "it is no attrs class"),
        (FILTERS, NoAttrs, "it is no attrs class"),
        (FILTERS, NotCallable, r"it has no __call__\(request, call_next\)"),
        (FILTERS, OldFilter, r"it has no __call__\(request, call_next\)"),
        (LOAD_BALANCERS, 7, r"it cannot be called with \(random\)"),
        (LOAD_BALANCERS, NoRandom, r"it cannot be called with \(random\)"),
        (LOAD_BALANCERS, OldBalancer, r"it cannot be called with \(random\)"),
        (LOAD_BALANCERS, MakesNothing, r"it has no picker\(endpoints, previous\)"),
        (LOAD_BALANCERS, ForgetsThePrevious, r"it has no picker\(endpoints, previous\)"),
    ],
)
def test_a_plugin_of_the_wrong_shape_is_refused(
    monkeypatch: pytest.MonkeyPatch, group: str, plugin: object, complaint: str
) -> None:
    with pytest.raises(PluginError, match=f"'odd' of acme-codecs 1.2 cannot be used: {complaint}"):
        shaped(monkeypatch, group, plugin).load(group, "odd")


@pytest.mark.parametrize(
    ("group", "plugin"),
    # Of the last one nothing can be known before it is called: it has no signature.
    [(FILTERS, Passing), (LOAD_BALANCERS, First), (LOAD_BALANCERS, first), (LOAD_BALANCERS, min)],
)
def test_a_plugin_of_the_right_shape_is_accepted(
    monkeypatch: pytest.MonkeyPatch, group: str, plugin: object
) -> None:
    assert shaped(monkeypatch, group, plugin).load(group, "odd") is plugin


def shaped(monkeypatch: pytest.MonkeyPatch, group: str, plugin: object) -> Registry:
    module = ModuleType("acme_odd")
    module.PLUGIN = plugin  # type: ignore[attr-defined]  # that is what a plugin's module is for
    monkeypatch.setitem(sys.modules, "acme_odd", module)
    return Registry([entry("odd", "acme_odd:PLUGIN", group=group)])


def test_a_module_may_fail_with_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "acme_fails.py").write_text("class Odd(Exception): ...\nraise Odd('no licence')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match=r"'x' of acme-codecs 1\.2 .*: Odd: no licence"):
        Registry([entry("x", "acme_fails:PLUGIN")]).codec("x")


def test_an_honest_plugin_is_accepted(offer: Callable[[str, object], Registry]) -> None:
    plugin = Bare()
    assert offer("bare", plugin).codec("bare") is plugin


def test_the_default_registry_holds_what_is_installed() -> None:
    registry = default_registry()
    for group in GROUPS:
        assert sorted(e.name for e in registry.entries(group)) == registry.names(group)


@attrs.frozen(kw_only=True)
class Tuned:
    """A codec plugin with an option; a long one has traits that its codec does not."""

    name: str = "tuned"
    depth: int = attrs.field(default=3, validator=attrs.validators.ge(0))

    @property
    def traits(self) -> Traits:
        return attrs.evolve(BOLT.traits, reverse=self.depth < 10)

    def detect(self, prefix: bytes, hint: Hint) -> Verdict:
        return MAYBE

    def open(self, role: Role, limits: Limits) -> Codec:
        return BOLT.open(role, limits)

    def restore(self, state: bytes, role: Role, limits: Limits) -> Codec:
        return BOLT.restore(state, role, limits)


def test_options_make_another_plugin(offer: Callable[[str, object], Registry]) -> None:
    registry = offer("tuned", Tuned())
    assert registry.configured("tuned", {"depth": 7}) == Tuned(depth=7)
    assert registry.codec("tuned") == Tuned(), "the installed one is as it was"


@pytest.mark.parametrize(
    ("name", "plugin", "options", "complaint"),
    [
        ("tuned", Tuned(), {"depth": -1}, "'tuned' cannot have these options: .*must be >= 0"),
        ("tuned", Tuned(), {"width": 1}, "'tuned' cannot have these options: .*'width'"),
        ("tuned", Tuned(), {"depth": 10}, "'tuned' of acme-codecs 1.2 cannot be used: traits.reverse"),
        ("opaque", OPAQUE, {"depth": 1}, "'opaque' cannot have these options"),
    ],
)  # fmt: skip
def test_options_that_a_plugin_cannot_have(
    offer: Callable[[str, object], Registry],
    name: str,
    plugin: object,
    options: dict[str, object],
    complaint: str,
) -> None:
    with pytest.raises(PluginError, match=complaint):
        offer(name, plugin).configured(name, options)


def test_what_is_loaded_is_known_and_nothing_is_loaded_by_asking() -> None:
    found = default_registry()
    assert found.loaded(CODECS) == {}
    plugin = found.codec("http1")
    assert found.loaded(CODECS) == {"http1": plugin}
    assert found.loaded(FILTERS) == {}
