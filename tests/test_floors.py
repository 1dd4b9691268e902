"""The library's floors: an import points down, and the ground floor is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

from conftest import ROOT

PACKAGE = ROOT / "dpo_lab"
FLOORS = {
    # mathematics on tensors: no model, no tokenizer, no device, no files
    0: "errors checks bradley_terry population boltzmann losses logprobs landscape tabular tiled",
    # text and models
    1: "lazy_rows disk_rows pair_types pair_rows pair_files pair_passes pair_sets pairs "
    "encoded token_text token_ids encoding batching "
    "scoring sampling worlds sequences reviews panda model_state adapters models "
    "packing segments fast",
    # doing
    2: "training evaluation diagnosis",
    # what people see
    3: "plotting widgets exercises bench notebook commands cli __main__",
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms.split()}
HEAVY = [
    "transformers",
    "tokenizers",
    "datasets",
    "accelerate",
    "matplotlib",
    "anywidget",
    "ipywidgets",
    "pandas",
]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(module: str) -> set[str]:
    """The modules of the package that `module` imports anywhere, in functions too."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in inner}
    return {name for name in found if name.split(".")[0] == "dpo_lab"} - {module}


def floor(module: str) -> int:
    """A module's floor; the package itself holds what floor 0 offers."""
    return FLOOR_OF[module.split(".")[1]] if "." in module else 0


def test_every_room_stands_on_one_floor():
    rooms = {name.split(".")[1] for name in MODULES if "." in name}
    assert rooms - set(FLOOR_OF) == set(), "say in FLOORS on which floor a new room stands"
    assert set(FLOOR_OF) - rooms == set(), "a room in FLOORS is gone"


def test_imports_point_down():
    upward = [
        f"{module} (floor {floor(module)}) imports {target} (floor {floor(target)})"
        for module in MODULES
        for target in sorted(imports_of(module))
        if floor(target) > floor(module)
    ]
    assert upward == []


def test_imports_make_no_circle():
    # raises CycleError, which names the modules of the circle
    order = TopologicalSorter({module: imports_of(module) for module in MODULES}).static_order()
    assert set(MODULES) <= set(order)


def test_the_ground_floor_is_light():
    rooms = ", ".join(f"dpo_lab.{room}" for room in FLOORS[0].split())
    code = f"import sys, dpo_lab, {rooms}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"
