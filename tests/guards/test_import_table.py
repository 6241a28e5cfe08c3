"""A room of the package imports only the rooms that the layout allows it."""

from pathlib import Path

import pytest
from source_imports import imported_modules

PACKAGE = Path(__file__).resolve().parents[2] / "projects" / "deeplab2_d2"

EVERYTHING = None
# Room: the rooms it may import beside itself. `compat`, `command` and `allocation` import nothing
# of ours and are free to all.
TABLE = {
    "structures": set(),
    "ops": set(),
    "records": {"structures"},
    "layers": {"ops"},
    "backbones": {"layers", "records", "structures"},
    "losses": {"ops", "structures"},
    "heads": {"layers", "losses", "structures"},
    "postprocessing": {"ops", "structures"},
    "video": {"ops", "structures", "postprocessing"},
    "models": EVERYTHING,
    "data": {"ops", "structures", "records"},
    "evaluation": {"ops", "structures", "records"},
    "solver": {"structures"},
    "checkpoint": {"config", "structures", "records"},
    "visualization": {"structures", "records"},
    "config": {"records", "structures"},
    "api": EVERYTHING,
    "compat": set(),
    "allocation": set(),
    "command": set(),
    "engine": EVERYTHING,
    "export": EVERYTHING,
}


def imported_rooms(path: Path) -> set:
    """Rooms that a file of the package imports."""
    modules = imported_modules(path, PACKAGE)
    return {parts[1] for parts in modules if parts[0] == "deeplab2_d2" and len(parts) > 1}


def rooms_of_the_package():
    return sorted(
        path.stem
        for path in PACKAGE.iterdir()
        if (path.is_dir() and any(path.rglob("*.py")))
        or (path.suffix == ".py" and path.name != "__init__.py")
    )


def test_every_room_stands_in_the_table():
    assert set(rooms_of_the_package()) <= set(TABLE)


@pytest.mark.parametrize("room", rooms_of_the_package())
def test_room_imports_only_what_the_table_allows(room):
    if TABLE[room] is EVERYTHING:
        return
    allowed = TABLE[room] | {room, "compat", "command", "allocation"}
    files = sorted((PACKAGE / room).rglob("*.py")) or [PACKAGE / f"{room}.py"]
    # A room's `__main__.py` is an entry point, and may import anything.
    wrong = {
        str(path.relative_to(PACKAGE)): sorted(imported_rooms(path) - allowed)
        for path in files
        if path.name != "__main__.py" and imported_rooms(path) - allowed
    }
    assert wrong == {}


# Programs of the package that stand in a file of their own.
ENTRY_POINTS = {"api", "export"}


def test_only_entry_points_import_the_engine():
    importers = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if path.name != "__main__.py" and "engine" in imported_rooms(path)
    }
    assert {importer.split(".")[0] for importer in importers} <= {"engine"} | ENTRY_POINTS


@pytest.mark.parametrize(
    "line, rooms",
    [
        ("from ..heads import DenseHeads", {"heads"}),
        ("from .. import heads, losses", {"heads", "losses"}),
        ("from .topk import topk_mse", {"losses"}),
        ("import deeplab2_d2.engine.trainer", {"engine"}),
        ("def f():\n    from deeplab2_d2.config import validate_config", {"config"}),
        ("from detectron2.engine import launch", set()),
    ],
)
def test_imports_are_read_in_all_their_spellings(line, rooms, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    path = tmp_path / "losses" / "example.py"
    path.parent.mkdir()
    path.write_text(line)
    assert imported_rooms(path) == rooms
