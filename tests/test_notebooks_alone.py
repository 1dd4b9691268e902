"""A chapter's set-up cell finds the library: installed, in a clone, or by installing it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import repository
import torch
from conftest import ROOT

from dpo_lab import notebook

CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ADDRESS = repository.address(ROOT)
WHERE = "\nimport dpo_lab\nprint(dpo_lab.__file__)"

# Runs a notebook to the end with this Python as its kernel; says which library the kernel used.
RUN_ALONE = """
import sys
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
notebook.cells.append(nbformat.v4.new_code_cell("import dpo_lab; print(dpo_lab.__file__)"))
NotebookClient(notebook, timeout=300, extra_arguments=["--log-level=ERROR"]).execute()
print(notebook.cells[-1].outputs[0].text)
"""

# A pip that notes what it was asked for and "installs" by leading the way to the checkout.
FAKE_PIP = """
import json, pathlib, sys
here = pathlib.Path(__file__).parent
(here.parent / "asked.json").write_text(json.dumps(sys.argv[1:]))
(here.parent / "dpo_lab").symlink_to({library!r})
"""


def run_setup(python: Path, folder: Path, path: Path | None = None) -> str:
    """Run the set-up cell in `folder`; returns where it found the library."""
    code = repository.setup_cell(ADDRESS) + WHERE
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        surroundings["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [python, "-c", code],
        cwd=folder,
        env=surroundings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_alone_in_an_empty_folder_runs_to_the_end(path, wheel_python, tmp_path):
    shutil.copy(path, tmp_path)
    done = subprocess.run(
        [wheel_python, "-c", RUN_ALONE, path.name],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert Path(done.stdout.strip()).is_relative_to(wheel_python.parent.parent)


def test_an_installed_library_is_used(wheel_python, tmp_path):
    assert Path(run_setup(wheel_python, tmp_path)).is_relative_to(wheel_python.parent.parent)


@pytest.mark.parametrize("folder", ["notebooks", "."])
def test_in_a_clone_the_clone_is_used(bare_python, tmp_path, folder):
    clone = tmp_path / "my-clone"
    (clone / "notebooks").mkdir(parents=True)
    shutil.copytree(ROOT / "dpo_lab", clone / "dpo_lab")
    found = run_setup(bare_python, clone / folder)
    assert Path(found).is_relative_to(clone)


@pytest.mark.parametrize("beside", ["nothing", "a folder of the same name"])
def test_elsewhere_it_is_installed_from_the_one_address(bare_python, tmp_path, beside):
    pip, here = tmp_path / "path" / "pip", tmp_path / "here"
    pip.mkdir(parents=True)
    here.mkdir()
    if beside != "nothing":
        (here / "dpo_lab").mkdir()  # a clone's folder, seen from above, is no package
    (pip / "__init__.py").touch()  # a whole package, else the real pip would be found first
    (pip / "__main__.py").write_text(FAKE_PIP.format(library=str(ROOT / "dpo_lab")))
    run_setup(bare_python, here, path=pip.parent)
    asked = json.loads((pip.parent / "asked.json").read_text())
    assert asked == ["install", "--quiet", f"dpo_lab[train] @ git+{ADDRESS}"]


@pytest.fixture
def quiet_environment(monkeypatch):
    """An environment in which the reader has set none of the names that set-up sets."""
    for name in (*notebook.QUIET, "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    threads = torch.get_num_threads()
    yield monkeypatch
    torch.set_num_threads(threads)


def test_set_up_silences_bars_and_keeps_what_the_reader_set(quiet_environment):
    quiet_environment.setenv("TQDM_DISABLE", "0")
    assert notebook.setup() is None
    assert os.environ["TQDM_DISABLE"] == "0"
    assert os.environ["TRANSFORMERS_VERBOSITY"] == "error"


def test_set_up_caps_threads_unless_the_reader_chose(quiet_environment):
    torch.set_num_threads(notebook.MOST_THREADS + 3)
    notebook.setup()
    assert torch.get_num_threads() == notebook.MOST_THREADS
    quiet_environment.setenv("OMP_NUM_THREADS", "7")
    torch.set_num_threads(notebook.MOST_THREADS + 3)
    notebook.setup()
    assert torch.get_num_threads() == notebook.MOST_THREADS + 3


def test_set_up_lets_colab_show_explorers(quiet_environment):
    calls = []
    output = SimpleNamespace(enable_custom_widget_manager=lambda: calls.append("enabled"))
    quiet_environment.setitem(sys.modules, "google", SimpleNamespace())
    quiet_environment.setitem(sys.modules, "google.colab", SimpleNamespace(output=output))
    notebook.setup()
    assert calls == ["enabled"]
