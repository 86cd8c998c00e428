"""Health checks in a configuration: a name and the options of the check's own class → an instance of it."""

from __future__ import annotations

from cattrs import Converter
from cattrs.errors import StructureHandlerNotFoundError

from xproxy.config.findings import Problem, show, unknown
from xproxy.config.health import CheckConfig
from xproxy.config.partial import UNREAD, PartlyRead
from xproxy.model.errors import PluginError
from xproxy.registry import HEALTH_CHECKS, Registry


def register_health_checks(converter: Converter, registry: Registry) -> None:
    """Teach ``converter`` to read health checks, from what ``registry`` has."""

    def structure(value: object, _: object) -> CheckConfig:
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, dict):
            raise Problem(
                f"expected a health check's name or a mapping with it, found {show(value)}"
            )
        names = registry.names(HEALTH_CHECKS)
        name = value.get("name")
        if name is None:
            raise Problem("a health check's `name` is missing", allowed=names)
        if not isinstance(name, str):
            raise Problem(f"expected a health check's name, found {show(name)}", at=("name",))
        if name not in names:
            raise unknown("health check", name, names, at=("name",))
        options = {key: option for key, option in value.items() if key != "name"}
        return CheckConfig(name=name, options=_instance(converter, registry, name, options))

    converter.register_structure_hook_func(lambda t: t is CheckConfig, structure)


def _instance(
    converter: Converter, registry: Registry, name: str, options: dict[str, object]
) -> object:
    try:
        return converter.structure(options, registry.health_check(name))
    except PartlyRead as exc:
        raise PartlyRead(exc.problems, CheckConfig(name=name, options=UNREAD)) from exc
    except PluginError as exc:
        raise Problem(str(exc), at=("name",)) from exc
    except (StructureHandlerNotFoundError, NameError) as exc:
        # A field of a type that nothing can be read into, or an annotation that names nothing at run time.
        raise Problem(f"health check {name} cannot be configured: {exc}", at=("name",)) from exc
