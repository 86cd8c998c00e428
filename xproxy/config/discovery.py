"""Discovery in a configuration: who says which endpoints a cluster has, written as filters are."""

from __future__ import annotations

from typing import Any, Final

import attrs
from cattrs import Converter
from cattrs.errors import StructureHandlerNotFoundError

from xproxy.config.findings import Problem, show, unknown
from xproxy.config.partial import UNREAD, PartlyRead
from xproxy.model.errors import PluginError
from xproxy.registry import DISCOVERY, Registry

STATIC: Final = "static"
"""The endpoints are those of the configuration: nobody is asked."""


@attrs.frozen(kw_only=True)
class DiscoveryConfig:
    """Who says which endpoints a cluster has. Written ``name``, or ``{name: …}`` with its own fields beside it."""

    name: str
    options: Any = None  # Any: checked by the discovery's own class
    """An instance of its class once loaded."""


def register_discovery(converter: Converter, registry: Registry) -> None:
    """Teach ``converter`` to read discoveries, from what ``registry`` has."""

    def structure(value: object, _: object) -> DiscoveryConfig | str:
        if isinstance(value, str):
            value = {"name": value}
        names = [STATIC, *registry.names(DISCOVERY)]
        if not isinstance(value, dict):
            raise Problem(f"expected a discovery's name or a mapping with it, found {show(value)}")
        name = value.get("name")
        if name is None:
            raise Problem("a discovery's `name` is missing", allowed=names)
        if not isinstance(name, str):
            raise Problem(f"expected a discovery's name, found {show(name)}", at=("name",))
        if name not in names:
            raise unknown("discovery", name, names, at=("name",))
        options = {key: option for key, option in value.items() if key != "name"}
        if name == STATIC:
            if options:
                raise Problem("static endpoints have no options", at=(next(iter(options)),))
            return STATIC
        return DiscoveryConfig(name=name, options=_instance(converter, registry, name, options))

    converter.register_structure_hook_func(lambda t: t is DiscoveryConfig, structure)


def _instance(
    converter: Converter, registry: Registry, name: str, options: dict[str, object]
) -> object:
    try:
        return converter.structure(options, registry.discovery(name))
    except PartlyRead as exc:
        raise PartlyRead(exc.problems, DiscoveryConfig(name=name, options=UNREAD)) from exc
    except PluginError as exc:
        raise Problem(str(exc), at=("name",)) from exc
    except (StructureHandlerNotFoundError, NameError) as exc:
        # A field of a type that nothing can be read into, or an annotation that names nothing at run time.
        raise Problem(f"discovery {name} cannot be configured: {exc}", at=("name",)) from exc
