"""What pip and conda install: pins, ranges, and the wheel as a stranger gets it."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
# What a CUDA build of torch brings along; which of these, if any, is the index's choice.
CUDA = ("nvidia-", "cuda-", "triton")
# Modules that exist on one service only and are imported behind a check for it.
ON_ONE_SERVICE = {"google"}


def requirements() -> list[Requirement]:
    """Every direct dependency, those of the extras included."""
    return [
        Requirement(text) for group in [PROJECT["dependencies"], *EXTRAS.values()] for text in group
    ]


def pin_lines() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def pins(python: str) -> dict[str, Version]:
    """The version of each package that constraints.txt gives a Python."""
    surroundings = {"python_version": python, "python_full_version": f"{python}.99"}
    found: dict[str, Version] = {}
    for pin in pin_lines():
        if pin.marker is None or pin.marker.evaluate(surroundings):
            name = canonicalize_name(pin.name)
            assert name not in found, f"{name} is pinned twice for Python {python}"
            (only,) = pin.specifier
            assert only.operator == "==", f"{pin} is not an exact version"
            found[name] = Version(only.version)
    return found


@pytest.mark.parametrize("python", PYTHONS)
def test_every_dependency_has_a_pin_in_its_range(python):
    pinned = pins(python)
    wrong = [
        f"{need}: {pinned.get(canonicalize_name(need.name))}"
        for need in requirements()
        if canonicalize_name(need.name) not in pinned
        or not need.specifier.contains(pinned[canonicalize_name(need.name)])
    ]
    assert wrong == []


def test_pins_name_no_build_and_no_place():
    for pin in pin_lines():
        assert pin.url is None
        assert "+" not in str(pin.specifier)
        assert not canonicalize_name(pin.name).startswith(CUDA)


def needed_names(extras: list[str]) -> set[str]:
    """What an installation with `extras` needs, all the way down, by installed metadata."""
    waiting = [("dpo-lab", extra) for extra in ["", *extras]]
    seen = set(waiting)
    while waiting:
        name, extra = waiting.pop()
        for text in importlib.metadata.requires(name) or []:
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                more = {(canonicalize_name(need.name), each) for each in ["", *need.extras]}
                waiting += more - seen
                seen |= more
    return {name for name, _ in seen} - {"dpo-lab"}


def test_pins_are_complete():
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    if python not in PYTHONS:
        pytest.skip(f"constraints.txt makes no promise for Python {python}")
    needed = {n for n in needed_names(["train", "book", "test"]) if not n.startswith(CUDA)}
    assert needed - set(pins(python)) == set()


def test_make_and_conda_install_the_same():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    extras = re.search(r"^EXTRAS := (\S+)$", makefile, re.MULTILINE)[1]
    assert set(extras.split(",")) <= set(EXTRAS)
    assert "--constraint constraints.txt" in makefile

    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *packages, by_pip = conda["dependencies"]
    assert by_pip == {"pip": ["--constraint constraints.txt", f"--editable .[{extras}]"]}
    # conda brings Python and tools; every version of a library comes from constraints.txt
    (python,) = [each for each in packages if each not in ("pip", "make")]
    assert re.fullmatch(r"python=(.*)", python)[1] in PYTHONS


def test_ranges_admit_what_colab_has(root):
    freeze = root.parent / "shared" / "colab" / "pip-freeze.gpu.txt"
    if not freeze.is_file():
        pytest.skip("no list of Colab's packages beside the checkout (../shared/colab)")
    there = {
        canonicalize_name(name): version
        for name, version in re.findall(r"^(\S+)==(\S+)$", freeze.read_text(), re.MULTILINE)
    }
    needs = [*PROJECT["dependencies"], *EXTRAS["train"]]
    changed = [
        f"{need}: Colab has {there[canonicalize_name(need.name)]}"
        for need in map(Requirement, needs)
        if canonicalize_name(need.name) in there
        and not need.specifier.contains(there[canonicalize_name(need.name)])
    ]
    assert changed == []


def third_party_imports() -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / "dpo_lab").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            for top in {name.split(".")[0] for name in names}:
                if top not in sys.stdlib_module_names | ON_ONE_SERVICE | {"dpo_lab"}:
                    yield path.name, top


def test_every_import_is_declared():
    declared = {
        canonicalize_name(Requirement(text).name)
        for extra in ("train", "dask", "bench")
        for text in [*PROJECT["dependencies"], *EXTRAS[extra]]
    }
    sources = importlib.metadata.packages_distributions()
    undeclared = {
        f"{file}: {top}"
        for file, top in third_party_imports()
        if not declared & {canonicalize_name(name) for name in sources.get(top, [])}
    }
    assert undeclared == set()


def test_the_wheel_holds_every_file_of_the_package(wheel, root):
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "dpo_lab"],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
    ).stdout.split()
    assert set(listed) - set(zipfile.ZipFile(wheel).namelist()) == set()


IMPORT_ALL = """
import importlib, json, pkgutil, sys
import dpo_lab
names = [each.name for each in pkgutil.walk_packages(dpo_lab.__path__, "dpo_lab.")]
names.remove("dpo_lab.__main__")
for name in names:
    importlib.import_module(name)

import anywidget
widgets, waiting = {}, [anywidget.AnyWidget]
while waiting:
    waiting += (more := waiting.pop().__subclasses__())
    widgets.update({each.__name__: len(str(each._esm)) for each in more
                    if each.__module__.startswith("dpo_lab.")})
print(json.dumps({"at": dpo_lab.__file__, "modules": names, "widgets": widgets}))
"""


def test_the_wheel_imports_and_its_explorers_have_their_script(wheel_python, tmp_path):
    done = subprocess.run(
        [wheel_python, "-c", IMPORT_ALL], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert Path(found["at"]).is_relative_to(wheel_python.parent.parent)
    assert "dpo_lab.notebook" in found["modules"]
    assert found["widgets"]
    assert all(size > 1000 for size in found["widgets"].values()), found["widgets"]


def test_the_wheel_brings_the_command(wheel_python):
    command = wheel_python.with_name("dpo-lab")
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout
