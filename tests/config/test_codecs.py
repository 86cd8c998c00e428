"""Codecs with options of their own: read, refused at the right place, compared by value, written down again."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Literal

import attrs
import pytest
from attrs import field
from attrs.validators import ge

from tests.codecs.declared import PLAIN
from xproxy.codecs.api import NOT_AN_OPTION, Codec, Hint, Verdict
from xproxy.codecs.bolt.codec import BoltCodec
from xproxy.codecs.bolt.plugin import TRAITS, detect
from xproxy.config.codecs import cluster_codec, listener_codecs, options_class, sole_codec
from xproxy.config.dump import config_dump
from xproxy.config.fields import config_fields, field_docs
from xproxy.config.findings import InvalidConfig
from xproxy.config.json_schema import json_schema
from xproxy.config.load import load_text
from xproxy.config.reference import config_reference
from xproxy.config.schema import CodecConfig, Config
from xproxy.model.limits import Duration, Limits, Size
from xproxy.model.traits import Role, Traits
from xproxy.registry import CODECS, LOAD_BALANCERS, Entry, Registry

BASE = """\
listeners: [{{name: a, address: "h:1", fallback: {{cluster: c}}, codecs: {codecs}}}]
clusters: {{c: {{endpoints: ["h:1"], codec: {codec}}}}}
"""


@attrs.frozen(kw_only=True)
class Inner:
    """What is bounded."""

    window: Size = field(default=Size(1024), validator=ge(Size(16)))
    """Bytes."""


@attrs.frozen(eq=False)
class TunedPlugin:
    """A protocol with knobs."""

    name: str = "tuned"
    traits: Traits = TRAITS
    examples: tuple[bytes, ...] = ()
    mode: Literal["fast", "safe"] = "safe"
    """How."""
    patience: Duration = field(default=Duration(1.5))
    limits: Inner = Inner()
    depth: int = field(default=3, validator=ge(0))
    token: str = "s3cret"
    memory: list[int] = field(factory=list, metadata=NOT_AN_OPTION)
    _cache: dict[str, int] = field(factory=dict, init=False)

    @depth.validator
    def _check(self, _: object, value: int) -> None:
        if value > len(self.traits.alpn) + 9:
            raise ValueError("too deep")

    def detect(self, prefix: bytes, hint: Hint) -> Verdict:
        return detect(prefix)

    def open(self, role: Role, limits: Limits) -> Codec:
        return BoltCodec(role, limits)

    def restore(self, state: bytes, role: Role, limits: Limits) -> Codec:
        codec = self.open(role, limits)
        assert isinstance(codec, BoltCodec)
        codec.load(state)
        return codec


class Plain:
    """A plugin whose class has no fields."""

    name = "plain"
    traits = TRAITS
    detect, open, restore = TunedPlugin.detect, TunedPlugin.open, TunedPlugin.restore


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    module = ModuleType("tuned_codec")
    vars(module).update(TUNED=TunedPlugin(patience=Duration(2.0)), PLAIN=Plain())
    monkeypatch.setitem(sys.modules, "tuned_codec", module)
    return Registry(
        [
            Entry.parse(CODECS, "tuned", "tuned_codec:TUNED", "acme", "1"),
            Entry.parse(CODECS, "plain", "tuned_codec:PLAIN", "acme", "1"),
            Entry.parse(CODECS, "opaque", "xproxy.codecs.opaque.plugin:PLUGIN", "xproxy", "1"),
            Entry.parse(
                LOAD_BALANCERS,
                "round_robin",
                "xproxy.upstream.balance.round_robin:RoundRobin",
                "x",
                "1",
            ),
        ]
    )


@pytest.fixture
def load(registry: Registry) -> Callable[..., Config]:
    def read(codecs: str = "auto", codec: str = "same") -> Config:
        return load_text(BASE.format(codecs=codecs, codec=codec), "f", registry)

    return read


def test_a_listener_has_the_configured_plugin(
    load: Callable[..., Config], registry: Registry
) -> None:
    config = load("[opaque, {name: tuned, mode: fast, limits: {window: 2KiB}}]")
    (listener,) = config.listeners
    opaque, tuned = listener_codecs(listener, registry)
    assert opaque is registry.codec("opaque")
    assert isinstance(tuned, TunedPlugin)
    assert (tuned.mode, tuned.limits.window, tuned.patience) == ("fast", 2048, 2.0)
    assert tuned is not registry.codec("tuned")
    assert tuned.memory is registry.codec("tuned").memory, "what is no option is as installed"  # type: ignore[attr-defined]
    assert sole_codec(listener, (opaque, tuned)) is None


def test_auto_in_a_list_is_all_the_others(load: Callable[..., Config], registry: Registry) -> None:
    (listener,) = load("[{name: tuned, mode: fast}, auto]").listeners
    assert [p.name for p in listener_codecs(listener, registry)] == ["tuned", "plain", "opaque"]
    (listener,) = load("[auto]").listeners
    assert listener_codecs(listener, registry) == registry.codecs()


@pytest.mark.parametrize(
    ("codecs", "sole"),
    [("tuned", "tuned"), ("[{name: tuned, depth: 1}]", "tuned"), ("auto", None), ("[auto]", None)],
)
def test_a_sole_codec_is_one_that_is_named(
    load: Callable[..., Config], registry: Registry, codecs: str, sole: str | None
) -> None:
    (listener,) = load(codecs).listeners
    found = sole_codec(listener, listener_codecs(listener, registry))
    assert (found and found.name) == sole
    assert sole_codec(load("[auto]").listeners[0], (registry.codec("tuned"),)) is None


def test_a_cluster_has_the_configured_plugin(
    load: Callable[..., Config], registry: Registry
) -> None:
    assert cluster_codec(load().clusters["c"], registry) is None
    assert cluster_codec(load(codec="tuned").clusters["c"], registry) is registry.codec("tuned")
    tuned = cluster_codec(load(codec="{name: tuned, depth: 7}").clusters["c"], registry)
    assert isinstance(tuned, TunedPlugin)
    assert tuned.depth == 7


def test_equal_options_are_one_configuration_across_loadings(load: Callable[..., Config]) -> None:
    one = load("[{name: tuned, mode: fast}]", "{name: tuned, limits: {window: 1KiB}}")
    same = load("[{mode: fast, name: tuned, depth: 3}]", "{name: tuned, limits: {window: 1024B}}")
    other = load("[{name: tuned, mode: fast}]", "{name: tuned, limits: {window: 2KiB}}")
    assert one == same
    assert one.clusters != other.clusters
    assert load("[{name: tuned}]").listeners[0].codecs == ("tuned",), "no options: just a name"


KEYS = "mode, patience, limits, depth, token"


@pytest.mark.parametrize(
    ("codec", "message"),
    [
        ("{name: tuned, mood: fast}", f"57: mood: unknown key (did you mean `mode`?); allowed: {KEYS}"),
        ("{name: tuned, mode: slow}", '63: mode: found "slow"; allowed: fast, safe'),
        ("{name: tuned, patience: x}", '67: patience: expected a duration such as 250ms, 3s, 5m, 1h or 0, found "x"'),
        ("{name: tuned, limits: {window: 1B}}", '74: limits.window: must be >= 16, found "1B"'),
        ("{name: tuned, depth: -1}", "64: depth: must be >= 0, found the number -1"),
        ("{name: tuned, depth: 10}", "43: codec 'tuned' cannot have these options: too deep"),
        ("{name: tuned, traits: {}}", f"57: traits: unknown key; allowed: {KEYS}"),
        ("{name: tuned, memory: []}", f"57: memory: unknown key; allowed: {KEYS}"),
        ("{name: plain, x: 1}", "57: x: unknown key; none is allowed here"),
        ("{name: tnued}", '50: name: unknown codec "tnued" (did you mean `tuned`?); allowed: opaque, plain, tuned'),
        ("{nmae: tuned}", "43: a codec's `name` is missing; allowed: opaque, plain, tuned"),
        ("{name: 5}", "50: name: expected a codec's name, found the number 5"),
        ("[tuned]", "43: expected text or a mapping, found a list of 1"),
    ],
)  # fmt: skip
def test_mistakes(load: Callable[..., Config], codec: str, message: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        load(codec=codec)
    (finding,) = map(str, caught.value.findings)
    assert re.sub(r"^f:2:(\d+: )clusters\.c\.codec[.:] ?", r"\1", finding) == message


def test_a_listener_names_a_codec_once(load: Callable[..., Config]) -> None:
    with pytest.raises(InvalidConfig, match=r'codecs\[1\]: codec "tuned" is listed twice'):
        load("[tuned, {name: tuned, depth: 1}]")


def test_a_codec_that_cannot_be_loaded_is_refused(registry: Registry) -> None:
    gone = Registry(
        [
            *registry.entries(CODECS),
            *registry.entries(LOAD_BALANCERS),
            Entry.parse(CODECS, "gone", "nowhere.at.all:PLUGIN", "acme", "1"),
        ]
    )
    with pytest.raises(InvalidConfig, match="'gone' of acme 1 cannot be imported"):
        load_text(BASE.format(codecs="auto", codec="{name: gone, x: 1}"), "f", gone)


def test_dump(load: Callable[..., Config]) -> None:
    dump: Any = config_dump(load("[opaque, {name: tuned, token: hidden}]"))  # Any: JSON
    assert dump["listeners"][0]["codecs"] == [
        "opaque",
        {
            "name": "tuned",
            "mode": "safe",
            "patience": "2s",
            "limits": {"window": "1KiB"},
            "depth": 3,
            "token": "[redacted]",
        },
    ]


def test_schema(registry: Registry) -> None:
    definitions: Any = json_schema(registry)["$defs"]  # Any: JSON
    forms = definitions["codec_with_options"]["anyOf"]
    by_name = {form["properties"]["name"]["const"]: form for form in forms}
    assert list(by_name) == ["opaque", "plain", "tuned"]
    properties = by_name["tuned"]["properties"]
    assert list(properties) == ["name", "mode", "patience", "limits", "depth", "token"]
    assert properties["patience"]["default"] == "2s"
    assert properties["depth"]["minimum"] == 0
    assert properties["mode"]["description"] == "How."


def test_reference(registry: Registry) -> None:
    page = config_reference(registry)
    assert "\n### `tuned`\n\nA protocol with knobs.\n" in page
    assert "| `mode` | fast or safe | `safe` | How. |" in page
    assert "| `window` | a size ≥ 16B | `1KiB` | Bytes. |" in page
    assert "list of text or [codec](#codecs)" in page


def test_a_declared_codec_has_no_options() -> None:
    assert config_fields(options_class(PLAIN)) == ()


def test_one_class_a_plugin() -> None:
    plugin = TunedPlugin()
    assert options_class(plugin) is options_class(plugin)
    assert options_class(plugin) is not options_class(TunedPlugin())
    assert field_docs(options_class(plugin)) == {"mode": "How."}


def test_a_configuration_holds_values() -> None:
    options = options_class(TunedPlugin())
    assert CodecConfig(name="tuned", options=options()) != CodecConfig(
        name="tuned",
        options=options(depth=4),  # type: ignore[call-arg]  # made at run time
    )


def test_a_route_may_ask_for_a_dialect(registry: Registry) -> None:
    web = Entry.parse(CODECS, "http1", "xproxy.codecs.http1.plugin:PLUGIN", "xproxy", "1")
    entries = [*registry.entries(CODECS), *registry.entries(LOAD_BALANCERS)]
    text = """\
listeners: [{name: a, address: "h:1", routes: r}]
routes: {r: [{match: {protocol: [tuned, grpc]}, cluster: c}]}
clusters: {c: {endpoints: ["h:1"]}}
"""
    config = load_text(text, "f", Registry([*entries, web]))
    assert config.routes["r"][0].match.protocol == ("tuned", "grpc")
    with pytest.raises(
        InvalidConfig, match='unknown protocol "grpc"; allowed: opaque, plain, tuned'
    ):
        load_text(text, "f", Registry(entries))
    definitions: Any = json_schema(Registry([*entries, web]))["$defs"]  # Any: JSON
    assert {"grpc", "grpc-web", "tuned"} <= set(definitions["protocol"]["enum"])
