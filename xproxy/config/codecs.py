"""Codecs in a configuration: a name alone, or a name and options of the plugin's own → values, and then plugins.

An installed plugin is an object, not a class: options are what its fields hold, and other options make another object
of it. A configuration holds the options as an instance of a class with just these fields, which is compared by value.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import attrs
from attrs import validators
from cattrs import Converter
from cattrs.errors import StructureHandlerNotFoundError

from xproxy.codecs.api import CodecPlugin
from xproxy.config.fields import DESCRIBED_BY, config_fields
from xproxy.config.findings import Problem, show, unknown
from xproxy.config.partial import UNREAD, PartlyRead
from xproxy.config.schema import ClusterConfig, CodecConfig, ListenerConfig, codec_name
from xproxy.model.errors import PluginError
from xproxy.model.traits import WEB_FAMILY, Sharing
from xproxy.registry import CODECS, Registry

AUTO: Final = "auto"
SAME: Final = "same"
ALPN: Final = "alpn"
_IDENTITY: Final = frozenset({"name", "traits", "examples"})
"""Fields that say what a plugin is."""
_AND: Final[Any] = type(validators.and_())  # Any: attrs' validator classes are private
_made: Final[dict[int, tuple[CodecPlugin, type]]] = {}
# By the plugin's identity, and as long as the process lives: equal options of two loadings must be of one class.


def options_class(plugin: CodecPlugin) -> type[attrs.AttrsInstance]:
    """Return the class of a plugin's options: its fields, with what they hold as defaults.

    Raises NameError where an annotation names something that exists only for type checkers.
    """
    known = _made.get(id(plugin))
    if known is None:
        made = attrs.make_class(
            f"{type(plugin).__name__}Options",
            {field.alias or field.name: _copy(field, plugin) for field in _options(plugin)},
            frozen=True,
            kw_only=True,
        )
        made.__doc__ = type(plugin).__doc__
        setattr(made, DESCRIBED_BY, type(plugin))
        known = _made[id(plugin)] = plugin, made
    return known[1]


def _options(plugin: CodecPlugin) -> Iterator[attrs.Attribute[Any]]:  # Any: fields have any type
    if attrs.has(type(plugin)):
        for field in config_fields(type(plugin)):
            if field.name not in _IDENTITY and field.metadata.get("option", True):
                yield field


def _copy(field: attrs.Attribute[Any], plugin: CodecPlugin) -> Any:  # Any: what attrs.field returns
    value: object = getattr(plugin, field.name)
    return attrs.field(
        factory=lambda: value,
        type=field.type,
        validator=None if field.validator is None else _validator(field.validator),
        metadata=field.metadata,
    )


def _validator(validator: Any) -> Any:  # Any: attrs' validator classes are private
    """Keep attrs' own, which say what bounds a number has. Others may ask more of an instance than it has here."""
    if isinstance(validator, _AND):
        return validators.and_(*(_validator(part) for part in validator._validators))
    if type(validator).__module__.partition(".")[0] in ("attr", "attrs"):
        return validator

    def lenient(
        options: object, field: attrs.Attribute[Any], value: object
    ) -> None:  # Any: as above
        try:
            validator(options, field, value)
        except AttributeError:
            pass  # it looks at the rest of the plugin: it runs, and reports, when that is made

    return lenient


def register_codecs(converter: Converter, registry: Registry) -> None:
    """Teach ``converter`` to read codecs with options, from what ``registry`` has."""

    def structure(value: object, _: object) -> CodecConfig | str:
        if not isinstance(value, dict):
            raise Problem(f"expected a codec's name or a mapping with it, found {show(value)}")
        names = registry.names(CODECS)
        name = value.get("name")
        if name is None:
            raise Problem("a codec's `name` is missing", allowed=names)
        if not isinstance(name, str):
            raise Problem(f"expected a codec's name, found {show(name)}", at=("name",))
        if name not in names:
            raise unknown("codec", name, names, at=("name",))
        given = {key: option for key, option in value.items() if key != "name"}
        # A codec with nothing beside its name is the same as the name.
        return _read(converter, registry, name, given) if given else name

    converter.register_structure_hook_func(lambda t: t is CodecConfig, structure)


def _read(
    converter: Converter, registry: Registry, name: str, given: dict[str, object]
) -> CodecConfig:
    try:
        options: object = converter.structure(given, options_class(registry.codec(name)))
    except PartlyRead as exc:
        raise PartlyRead(exc.problems, CodecConfig(name=name, options=UNREAD)) from exc
    except PluginError as exc:
        raise Problem(str(exc), at=("name",)) from exc
    except (StructureHandlerNotFoundError, NameError) as exc:
        # A field of a type that nothing can be read into, or an annotation that names nothing at run time.
        raise Problem(f"codec {name} cannot be configured: {exc}", at=("name",)) from exc
    return CodecConfig(name=name, options=options)


def plugin_of(codec: str | CodecConfig, registry: Registry) -> CodecPlugin:
    """Return the plugin with the options given, or as it is installed where none are. Raises PluginError."""
    if isinstance(codec, str):
        return registry.codec(codec)
    return registry.configured(codec.name, attrs.asdict(codec.options, recurse=False))


def listener_codecs(config: ListenerConfig, registry: Registry) -> tuple[CodecPlugin, ...]:
    """Return what a listener recognises, in the order of its configuration. Raises PluginError."""
    if config.codecs == AUTO:
        return registry.codecs()
    named = {codec_name(codec) for codec in config.codecs}
    found: list[CodecPlugin] = []
    for codec in config.codecs:
        if codec == AUTO:
            found += (plugin for plugin in registry.codecs() if plugin.name not in named)
        else:
            found.append(plugin_of(codec, registry))
    return tuple(found)


def sole_codec(config: ListenerConfig, plugins: tuple[CodecPlugin, ...]) -> CodecPlugin | None:
    """Return the one codec that the configuration names for a listener; None if it names several, or ``auto``."""
    return plugins[0] if len(plugins) == 1 and AUTO not in config.codecs else None


def cluster_codec(config: ClusterConfig, registry: Registry) -> CodecPlugin | None:
    """Return the codec that a cluster's endpoints speak; None: it depends on the request. Raises PluginError."""
    return None if config.codec in (AUTO, SAME, ALPN) else plugin_of(config.codec, registry)


def offered_codecs(config: ClusterConfig, registry: Registry) -> tuple[CodecPlugin, ...]:
    """Return what a cluster's endpoints may choose from in TLS, the best first; empty: they are not asked."""
    if config.codec != ALPN and not (config.codec == AUTO and config.tls is not None):
        return ()
    return tuple(plugin for plugin in registry.codecs() if plugin.traits.alpn)


def ordinary_codec(registry: Registry) -> CodecPlugin | None:
    """Return what web servers speak of which nothing is said: one request after the other. Raises PluginError."""
    for plugin in registry.codecs():
        if plugin.traits.family == WEB_FAMILY and plugin.traits.sharing is Sharing.SERIAL:
            return plugin
    return None


def call_codecs(registry: Registry) -> dict[str, CodecPlugin]:
    """Return the codecs that are made for calls, by dialect. Raises PluginError."""
    found: dict[str, CodecPlugin] = {}
    for plugin in registry.codecs():
        for dialect in plugin.traits.calls:
            found.setdefault(dialect, plugin)
    return found
