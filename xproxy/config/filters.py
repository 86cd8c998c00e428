"""Filters in a configuration: a name and the options of the filter's own class → an instance of it."""

from __future__ import annotations

from cattrs import Converter
from cattrs.errors import StructureHandlerNotFoundError

from xproxy.config.findings import Problem, show, unknown
from xproxy.config.partial import UNREAD, PartlyRead
from xproxy.config.schema import FilterConfig
from xproxy.model.errors import PluginError
from xproxy.registry import FILTERS, Registry


def register_filters(converter: Converter, registry: Registry) -> None:
    """Teach ``converter`` to read filters, from what ``registry`` has."""

    def structure(value: object, _: object) -> FilterConfig:
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, dict):
            raise Problem(f"expected a filter's name or a mapping with it, found {show(value)}")
        name = value.get("name")
        if name is None:
            raise Problem("a filter's `name` is missing", allowed=registry.names(FILTERS))
        if not isinstance(name, str):
            raise Problem(f"expected a filter's name, found {show(name)}", at=("name",))
        if name not in registry.names(FILTERS):
            raise unknown("filter", name, registry.names(FILTERS), at=("name",))
        options = {key: option for key, option in value.items() if key != "name"}
        return FilterConfig(name=name, options=_instance(converter, registry, name, options))

    converter.register_structure_hook_func(lambda t: t is FilterConfig, structure)


def _instance(
    converter: Converter, registry: Registry, name: str, options: dict[str, object]
) -> object:
    try:
        return converter.structure(options, registry.filter(name))
    except PartlyRead as exc:
        raise PartlyRead(exc.problems, FilterConfig(name=name, options=UNREAD)) from exc
    except PluginError as exc:
        raise Problem(str(exc), at=("name",)) from exc
    except (StructureHandlerNotFoundError, NameError) as exc:
        # A field of a type that nothing can be read into, or an annotation that names nothing at run time.
        raise Problem(f"filter {name} cannot be configured: {exc}", at=("name",)) from exc
