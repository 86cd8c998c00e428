"""Load balancers in a configuration: a name alone, or a name and the options of the balancer's own class."""

from __future__ import annotations

import attrs
from cattrs import Converter
from cattrs.errors import StructureHandlerNotFoundError

from xproxy.config.balancing import BalancerConfig
from xproxy.config.findings import Problem, show, unknown
from xproxy.config.partial import UNREAD, PartlyRead
from xproxy.model.errors import PluginError
from xproxy.registry import LOAD_BALANCERS, Registry


@attrs.frozen(kw_only=True)
class NoOptions:
    """It has no options."""


def balancer_options(registry: Registry, name: str) -> type[attrs.AttrsInstance]:
    """Return the class of a balancer's options. Raises PluginError."""
    return registry.balancer_options(name) or NoOptions


def register_balancers(converter: Converter, registry: Registry) -> None:
    """Teach ``converter`` to read balancers with options, from what ``registry`` has."""

    def structure(value: object, _: object) -> BalancerConfig | str:
        names = registry.names(LOAD_BALANCERS)
        if not isinstance(value, dict):
            raise Problem(
                f"expected a load balancer's name or a mapping with it, found {show(value)}"
            )
        name = value.get("name")
        if name is None:
            raise Problem("a load balancer's `name` is missing", allowed=names)
        if not isinstance(name, str):
            raise Problem(f"expected a load balancer's name, found {show(name)}", at=("name",))
        if name not in names:
            raise unknown("load balancer", name, names, at=("name",))
        given = {key: option for key, option in value.items() if key != "name"}
        # A balancer with nothing beside its name is the same as the name.
        return _read(converter, registry, name, given) if given else name

    converter.register_structure_hook_func(lambda t: t is BalancerConfig, structure)


def _read(
    converter: Converter, registry: Registry, name: str, given: dict[str, object]
) -> BalancerConfig:
    try:
        options: object = converter.structure(given, balancer_options(registry, name))
    except PartlyRead as exc:
        raise PartlyRead(exc.problems, BalancerConfig(name=name, options=UNREAD)) from exc
    except PluginError as exc:
        raise Problem(str(exc), at=("name",)) from exc
    except (StructureHandlerNotFoundError, NameError) as exc:
        raise Problem(f"load balancer {name} cannot be configured: {exc}", at=("name",)) from exc
    return BalancerConfig(name=name, options=options)
