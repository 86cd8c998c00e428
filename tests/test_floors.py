"""A module imports from its own floor or a lower one, and imports never go round in a circle.

Every import counts: also inside functions and under ``TYPE_CHECKING``, where a circle only hides.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "xproxy"
PLUGIN_MAY_IMPORT = ("xproxy.api", "xproxy.testing")

Imports = Mapping[str, frozenset[str]]
"""Module → the modules it imports, all by full name."""


def floors() -> dict[str, int]:
    """Return the table of pyproject.toml: folder or module under xproxy/ → floor."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        table: dict[str, int] = tomllib.load(file)["tool"]["xproxy"]["floors"]
    return table


def module_name(path: Path) -> str:
    """Return the full name of the module in ``path``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(source: str) -> Iterator[str]:
    """Give every dotted name that ``source`` may import, modules and names out of modules alike."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def read_imports(folder: Path) -> dict[str, frozenset[str]]:
    """Return the imports among the modules below ``folder``."""
    sources = {module_name(path): path.read_text() for path in sorted(folder.rglob("*.py"))}
    return {
        module: frozenset(n for n in imported_names(source) if n in sources and n != module)
        for module, source in sources.items()
    }


def floor_of(module: str, table: Mapping[str, int]) -> int:
    """Return a module's floor. The package itself imports nothing; ``__main__`` is the CLI."""
    _, _, rest = module.partition(".")
    if not rest:
        return 0
    return table["cli" if rest == "__main__" else rest.split(".")[0]]


def upward(imports: Imports, table: Mapping[str, int]) -> list[str]:
    """Return each import of a higher floor, as a sentence."""
    return [
        f"{module} (floor {floor_of(module, table)}) imports {name} (floor {floor_of(name, table)})"
        for module, names in sorted(imports.items())
        for name in sorted(names)
        if floor_of(name, table) > floor_of(module, table)
    ]


def circle(imports: Imports) -> list[str]:
    """Return the modules of one circle of imports in order, or nothing."""
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for name in sorted(imports.get(module, ())):
            if found := walk(name, [*path, module]):
                return found
        done.add(module)
        return []

    for module in sorted(imports):
        if found := walk(module, []):
            return found
    return []


IMPORTS = read_imports(PACKAGE)


def test_every_folder_has_a_floor() -> None:
    table = floors()
    names = {m.split(".")[1] for m in IMPORTS if "." in m} - {"__main__"}
    assert names <= table.keys(), f"no floor in pyproject.toml: {sorted(names - table.keys())}"


def test_no_module_imports_from_a_higher_floor() -> None:
    found = upward(IMPORTS, floors())
    assert not found, "\n".join(found)


def test_imports_never_go_round() -> None:
    found = circle(IMPORTS)
    assert not found, " → ".join(found)


def test_observe_is_out_of_reach_for_codecs_and_the_model() -> None:
    guilty = [
        module
        for module, names in IMPORTS.items()
        if module.startswith(("xproxy.model", "xproxy.codecs"))
        and any(name.startswith("xproxy.observe") for name in names)
    ]
    assert not guilty


def plugin_modules() -> list[Path]:
    """Return the source files of the plugins in this repository, tests included."""
    return sorted((ROOT / "plugins").rglob("*.py"))


@pytest.mark.parametrize("path", plugin_modules(), ids=lambda path: path.name)
def test_plugins_import_the_public_face_only(path: Path) -> None:
    wrong = [
        name
        for name in imported_names(path.read_text())
        if (name == "xproxy" or name.startswith("xproxy."))
        and not name.startswith(PLUGIN_MAY_IMPORT)
    ]
    assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}; plugins have {PLUGIN_MAY_IMPORT}"


def test_an_import_inside_a_function_or_under_type_checking_counts() -> None:
    source = (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import xproxy.proxy\n"
        "def f():\n    from xproxy.cli import main\n"
    )
    assert {"xproxy.proxy", "xproxy.cli", "xproxy.cli.main"} <= set(imported_names(source))


def test_an_upward_import_and_a_circle_are_found() -> None:
    imports = {
        "xproxy.model.a": frozenset({"xproxy.cli.b"}),
        "xproxy.cli.b": frozenset({"xproxy.cli.c"}),
        "xproxy.cli.c": frozenset({"xproxy.model.a"}),
    }
    assert upward(imports, {"model": 0, "cli": 7}) == [
        "xproxy.model.a (floor 0) imports xproxy.cli.b (floor 7)"
    ]
    assert circle(imports) == ["xproxy.cli.b", "xproxy.cli.c", "xproxy.model.a", "xproxy.cli.b"]
