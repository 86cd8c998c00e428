"""The registry: entry points → plugins, built-in and installed ones alike.

Guarantees: listing names imports nothing; a plugin is imported once, when it is first asked for, and checked before
anybody sees it; what cannot be used raises ``PluginError`` that names the distribution to blame.
(idea: pluggy and pytest name the distribution; stevedore loads lazily)
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any, Final

import attrs

from xproxy.codecs.api import (
    Codec,
    CodecPlugin,
    RestoringPlugin,
    SupportsNativeStatus,
    SupportsSnapshot,
)
from xproxy.model.errors import LocalProtocolError, PluginError
from xproxy.model.frames import Head, Violation
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead
from xproxy.model.status import Status
from xproxy.model.traits import API_VERSION, Role, Sharing, Traits
from xproxy.stream.chain import name_filters

CODECS: Final = "xproxy.codecs"
FILTERS: Final = "xproxy.filters"
CONNECTION_FILTERS: Final = "xproxy.connection_filters"
LOAD_BALANCERS: Final = "xproxy.load_balancers"
DISCOVERY: Final = "xproxy.discovery"
HEALTH_CHECKS: Final = "xproxy.health_checks"
ACCESS_LOGS: Final = "xproxy.access_logs"
TRACERS: Final = "xproxy.tracers"

GROUPS: Final = (
    CODECS,
    FILTERS,
    CONNECTION_FILTERS,
    LOAD_BALANCERS,
    DISCOVERY,
    HEALTH_CHECKS,
    ACCESS_LOGS,
    TRACERS,
)
"""Every entry point group that xproxy reads."""


@attrs.frozen(kw_only=True)
class Entry:
    """One installed entry point; nothing of it is imported yet."""

    group: str
    """One of ``GROUPS``."""
    name: str
    """What configuration calls it."""
    distribution: str
    """The package that brought it, as pip names it."""
    version: str
    """That package's version."""
    module: str
    """Dotted path of the module to import."""
    attribute: str
    """Dotted path of the object inside it; empty: the module itself."""

    @classmethod
    def parse(cls, group: str, name: str, value: str, distribution: str, version: str) -> Entry:
        """Read an entry point's ``module:attribute`` value; extras in brackets are dropped."""
        module, _, attribute = value.partition("[")[0].partition(":")
        return cls(
            group=group,
            name=name,
            distribution=distribution,
            version=version,
            module=module.strip(),
            attribute=attribute.strip(),
        )

    def __str__(self) -> str:
        return f"{self.group} {self.name!r} of {self.distribution} {self.version}"


class Registry:
    """The plugins of one set of entry points. Raises PluginError if two of them claim one name in one group."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries: dict[str, dict[str, Entry]] = {group: {} for group in GROUPS}
        self._loaded: dict[tuple[str, str], object] = {}
        for entry in entries:
            group = self._entries.get(entry.group)
            if group is None:
                continue
            other = group.setdefault(entry.name, entry)
            if other != entry:
                raise PluginError(
                    f"{entry.group} {entry.name!r} is claimed twice: by {other.distribution} {other.version} "
                    f"({other.module}) and by {entry.distribution} {entry.version} ({entry.module}); "
                    "uninstall one of them"
                )

    def names(self, group: str) -> list[str]:
        """Return the installed names of a group, sorted. Imports nothing."""
        return sorted(self._group(group))

    def entries(self, group: str) -> tuple[Entry, ...]:
        """Return what is installed in a group, sorted by name. Imports nothing."""
        found = self._group(group)
        return tuple(found[name] for name in sorted(found))

    def load(self, group: str, name: str) -> object:
        """Import a plugin, once. Raises PluginError for an unknown name, a failed import, and a bad plugin.

        Codecs, filters, load balancers and health checks are held against their contracts in ``xproxy.api``.
        """
        loaded = self._loaded.get((group, name))
        if loaded is not None:
            return loaded
        found = self._group(group)
        entry = found.get(name)
        if entry is None:
            raise PluginError(_unknown(group, name, found))
        plugin = _import(entry)
        if group == CODECS:
            _check_codec_plugin(entry, plugin)
        elif group == FILTERS:
            _refuse(entry, _filter_shape(plugin))
        elif group == LOAD_BALANCERS:
            _refuse(entry, _balancer_shape(plugin))
        elif group == HEALTH_CHECKS:
            _refuse(entry, _check_shape(plugin))
        elif group == DISCOVERY:
            _refuse(entry, _discovery_shape(plugin))
        self._loaded[group, name] = plugin
        return plugin

    def loaded(self, group: str) -> dict[str, object]:
        """Return the plugins of a group that have been loaded, by name. Imports nothing."""
        return {name: plugin for (of, name), plugin in self._loaded.items() if of == group}

    def codec(self, name: str) -> CodecPlugin:
        """Return a codec plugin, checked. Raises PluginError."""
        plugin: CodecPlugin = self.load(CODECS, name)  # type: ignore[assignment]  # load has checked its shape
        return plugin

    def configured(self, name: str, options: Mapping[str, object]) -> CodecPlugin:
        """Return a new codec plugin with these options (named as in ``__init__``), checked. Raises PluginError."""
        plugin: Any = self.codec(name)  # Any: of some attrs class, else it has no options
        try:
            changed: CodecPlugin = attrs.evolve(plugin, **options)
        except Exception as exc:  # somebody else's code, which may fail with anything
            raise PluginError(f"codec {name!r} cannot have these options: {exc}") from exc
        _check_codec_plugin(self._entries[CODECS][name], changed)
        return changed

    def filter(self, name: str) -> type[attrs.AttrsInstance]:
        """Return a filter's class, checked. Raises PluginError."""
        cls: type[attrs.AttrsInstance] = self.load(FILTERS, name)  # type: ignore[assignment]  # load has checked it
        name_filters(cls, name)
        return cls

    def balancer_options(self, name: str) -> type[attrs.AttrsInstance] | None:
        """Return the class of a load balancer's options; None: it has none. Raises PluginError."""
        found: type[attrs.AttrsInstance] | None = getattr(
            self.load(LOAD_BALANCERS, name), "options", None
        )
        return found

    def health_check(self, name: str) -> type[attrs.AttrsInstance]:
        """Return a health check's class, checked. Raises PluginError."""
        cls: type[attrs.AttrsInstance] = self.load(HEALTH_CHECKS, name)  # type: ignore[assignment]  # load has checked it
        return cls

    def discovery(self, name: str) -> type[attrs.AttrsInstance]:
        """Return the class of a way to find endpoints, checked. Raises PluginError."""
        cls: type[attrs.AttrsInstance] = self.load(DISCOVERY, name)  # type: ignore[assignment]  # load has checked it
        return cls

    def codecs(self) -> tuple[CodecPlugin, ...]:
        """Return all codec plugins, in order of detection: by rank, then by name. Raises PluginError."""
        plugins = [self.codec(name) for name in self.names(CODECS)]
        return tuple(sorted(plugins, key=lambda plugin: (plugin.traits.rank, plugin.name)))

    def _group(self, group: str) -> dict[str, Entry]:
        found = self._entries.get(group)
        if found is None:
            raise PluginError(f"no such plugin group: {group!r} (there are: {', '.join(GROUPS)})")
        return found


def default_registry() -> Registry:
    """Return the registry of what is installed in this environment. Imports no plugin."""
    entries: list[Entry] = []
    for group in GROUPS:
        for point in metadata.entry_points(group=group):
            dist = point.dist
            name, version = (dist.name, dist.version) if dist is not None else ("unknown", "")
            entries.append(Entry.parse(group, point.name, point.value, name, version))
    return Registry(entries)


def _unknown(group: str, name: str, found: Iterable[str]) -> str:
    names = sorted(found)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"installed: {', '.join(names) or 'none'}"
    return f"{group} has no {name!r}: {hint}"


def _import(entry: Entry) -> object:
    try:
        found: object = importlib.import_module(entry.module)
        for part in entry.attribute.split(".") if entry.attribute else ():
            found = getattr(found, part)
    except Exception as exc:  # somebody else's code, which may fail with anything
        raise PluginError(f"{entry} cannot be imported: {type(exc).__name__}: {exc}") from exc
    return found


def _check_codec_plugin(entry: Entry, plugin: object) -> None:
    """Refuse a codec plugin whose claims do not hold. Raises PluginError with every finding."""
    found = [*_shape(entry, plugin)]
    if not found:
        try:
            found = [*_honesty(plugin)]  # type: ignore[arg-type]  # _shape has just checked it
        except Exception as exc:  # likewise
            raise PluginError(
                f"{entry} cannot be used: its codec failed: {type(exc).__name__}: {exc}"
            ) from exc
    _refuse(entry, found)


def _refuse(entry: Entry, complaints: Iterable[str]) -> None:
    if found := "; ".join(complaints):
        raise PluginError(f"{entry} cannot be used: {found}")


def _filter_shape(plugin: object) -> Iterable[str]:
    """A filter is a class whose fields are its options and whose instances are called with a request."""
    if not isinstance(plugin, type) or not attrs.has(plugin):
        yield "it is no attrs class"
        return
    # Not getattr alone: every class has the __call__ that makes its instances.
    own = any("__call__" in vars(base) for base in plugin.__mro__)
    if not own or not _takes(plugin.__call__, 3):
        yield "it has no __call__(request, call_next)"


def _check_shape(plugin: object) -> Iterable[str]:
    """A health check is a class whose fields are its options and whose instances are called with a probe."""
    if not isinstance(plugin, type) or not attrs.has(plugin):
        yield "it is no attrs class"
        return
    own = any("__call__" in vars(base) for base in plugin.__mro__)
    if not own or not _takes(plugin.__call__, 2):
        yield "it has no __call__(probe)"


def _balancer_shape(plugin: object) -> Iterable[str]:
    """A balancer is made with a source of randomness, and makes pickers."""
    options = getattr(plugin, "options", None)
    if not callable(plugin) or not _takes(plugin, 1):
        yield "it cannot be called with (random)"
    elif options is not None and not (isinstance(options, type) and attrs.has(options)):
        yield "its options are no attrs class"
    elif options is not None and not _takes(plugin, 2):
        yield "it has options, but cannot be called with (random, options)"
    elif isinstance(plugin, type) and not _takes(getattr(plugin, "picker", None), 3):
        yield "it has no picker(endpoints, previous)"


def _discovery_shape(plugin: object) -> Iterable[str]:
    """A discovery is a class whose fields are its options, and which finds endpoints, or a request's destination."""
    if not isinstance(plugin, type) or not attrs.has(plugin):
        yield "it is no attrs class"
    elif not any(_takes(getattr(plugin, name, None), 2) for name in ("discover", "destination")):
        yield "it has neither discover(asked) nor destination(request)"


def _takes(function: object, count: int) -> bool:
    """Whether ``function`` can be called with so many arguments by position; where nobody knows, yes."""
    if not callable(function):
        return False
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # built-in code may have none
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _shape(entry: Entry, plugin: object) -> Iterable[str]:
    """What can be said without opening a codec."""
    name = getattr(plugin, "name", None)
    if name != entry.name:
        yield f"it calls itself {name!r}, its entry point says {entry.name!r}"
    for method in ("detect", "open"):
        if not callable(getattr(plugin, method, None)):
            yield f"it has no {method}()"
    traits = getattr(plugin, "traits", None)
    if not isinstance(traits, Traits):
        yield f"its traits are {type(traits).__name__}, not Traits"
        return
    if traits.api != API_VERSION:
        yield f"it is written for api version {traits.api}, this is {API_VERSION}"
    sharings = {traits.sharing, traits.upstream_sharing or traits.sharing}
    if not all(isinstance(sharing, Sharing) for sharing in sharings):
        yield "its sharing is not a Sharing"
    if Sharing.MESSAGES in sharings and (traits.trailers or traits.interim):
        yield "messages that come whole have neither trailers nor interim responses"
    if traits.reverse and Sharing.SERIAL in sharings:
        yield "a serial connection cannot carry calls both ways (traits.reverse)"
    if traits.headless and sharings != {Sharing.SERIAL}:
        yield "a stream without a head has its connection to itself (traits.headless needs SERIAL)"


def _honesty(plugin: CodecPlugin) -> Iterable[str]:
    """Hold the traits against codecs that were really opened."""
    for role in Role:
        codec: object = plugin.open(role, DEFAULT_LIMITS)
        if not (
            callable(getattr(codec, "receive", None)) and callable(getattr(codec, "send", None))
        ):
            yield f"open({role.name}) gave {type(codec).__name__}, which is no codec"
            return
    traits = plugin.traits
    for role in Role:
        saves = isinstance(plugin.open(role, DEFAULT_LIMITS), SupportsSnapshot)
        if saves != isinstance(plugin, RestoringPlugin):
            one, other = ("snapshot()", "restore()") if saves else ("restore()", "snapshot()")
            yield f"it has {one} but no {other} ({role.name})"
        began = plugin.open(role, DEFAULT_LIMITS).receive(b"")
        if any(isinstance(frame, Head) for frame in began) != traits.headless:
            yield f"traits.headless is {traits.headless}, but before a byte came it gave {_kinds(began)}"
        ended = plugin.open(role, DEFAULT_LIMITS).receive(None)
        if any(isinstance(frame, Violation) for frame in ended):
            yield "a connection that ends before its first byte is a violation to it"
    if _calls_back(plugin) != traits.reverse:
        yield f"traits.reverse is {traits.reverse}, but its server side {'cannot' if traits.reverse else 'can'} call"
    if isinstance(plugin, SupportsNativeStatus):
        wrong = [n for n in (-1, 0, 1, 2**31) if not isinstance(plugin.status_of(n), Status)]
        if wrong:
            yield f"status_of() is not total: {wrong}"


def _calls_back(plugin: CodecPlugin) -> bool:
    codec: Codec = plugin.open(Role.SERVER, DEFAULT_LIMITS)
    codec.receive(b"")
    try:
        return bool(codec.send(Head(1, RequestHead(service="probe", method="probe"), end=True)))
    except LocalProtocolError:
        return False


def _kinds(frames: Sequence[object]) -> str:
    return ", ".join(type(frame).__name__ for frame in frames) or "nothing"
