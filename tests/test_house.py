"""The house stands as CONTRIBUTING.md says: every room knows only those below it, and nothing imports in a circle."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import fastconv

SOURCES = Path(fastconv.__file__).parent
CONTRIBUTING = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def _modules() -> dict[str, Path]:
    """The package's modules by their names below it; its own is empty."""
    return {
        ".".join(path.relative_to(SOURCES).with_suffix("").parts).removesuffix("__init__").rstrip("."): path
        for path in SOURCES.rglob("*.py")
    }


def _floors() -> dict[str, int]:
    """The rooms in the table of CONTRIBUTING.md, and on which floor each is, counted from the ground."""
    _, table = CONTRIBUTING.split("## The house\n")
    rows = re.findall(r"^\| (`.*?) \|", table.split("\n## ")[0], re.MULTILINE)
    return {room: floor for floor, row in enumerate(rows) for room in re.findall(r"`(.+?)`", row)}


def _room(module: str, floors: dict[str, int]) -> str:
    """The room that a module is in. One with rooms of its own, as the package and ``backends`` have, is no other's."""
    name = f"fastconv.{module}".rstrip(".")
    for room in (name, name.rpartition(".")[0], name.rpartition(".")[0].rpartition(".")[0]):
        inside = any(other.startswith(f"{room}.") for other in floors)
        if room in floors and (room == name or not inside):
            return room
    raise AssertionError(f"CONTRIBUTING.md's table has no room for {name}")


def _imported(module: str, modules: dict[str, Path]) -> set[str]:
    """The modules of the package that one imports, in functions too, but not those that strings name.

    Nor those that it imports for type checkers alone.
    """
    is_package = modules[module].name == "__init__.py"
    here = f"fastconv.{module}".rstrip(".").split(".")
    found = set()
    tree = ast.parse(modules[module].read_text(encoding="utf-8"))
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    never_run = {inner for block in blocks for inner in ast.walk(block)}
    for node in ast.walk(tree):
        if node in never_run:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) + is_package - node.level] if node.level else []
            source = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                name = f"{source}.{alias.name}"
                found.add(name if name.removeprefix("fastconv.") in modules else source)
    ours = {name.removeprefix("fastconv").lstrip(".") for name in found if name.split(".")[0] == "fastconv"}
    return {name for name in ours & modules.keys() if name != module}


def test_every_room_knows_only_those_below_it() -> None:
    modules, floors = _modules(), _floors()
    wrong = []
    for module in modules:
        room = _room(module, floors)
        for other in _imported(module, modules):
            its_room = _room(other, floors)
            if its_room != room and floors[its_room] >= floors[room]:
                wrong.append(f"fastconv.{module}, in {room}, imports fastconv.{other}, in {its_room}")
    assert not wrong, "\n".join(sorted(wrong))


def test_nothing_imports_in_a_circle() -> None:
    modules = _modules()
    try:
        TopologicalSorter({module: _imported(module, modules) for module in modules}).prepare()
    except CycleError as error:
        raise AssertionError(f"a circle of imports: {' <- '.join(error.args[1])}") from None


def test_the_table_names_no_room_that_there_is_not() -> None:
    names = {f"fastconv.{module}".rstrip(".") for module in _modules()}
    assert _floors().keys() <= names, _floors().keys() - names
