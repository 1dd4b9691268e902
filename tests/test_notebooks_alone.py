"""Chapters run alone and show what is stored; their set-up cell finds the library anywhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import repository
import torch
from conftest import ROOT

from dpo_lab import notebook

# Of each kind one: exact numbers, a trained model, explorers alone. All chapters' outputs are
# compared after the run of the book (test_book_outputs.py), and weekly all run alone, as on Colab.
ALONE = [
    ROOT / "notebooks" / f"{name}.ipynb"
    for name in ("01_preferences", "08_chosen_falls", "15_real_model", "playground")
]
ADDRESS = repository.address(ROOT)
WHERE = "\nimport dpo_lab\nprint(dpo_lab.__file__)"

# nbval as `pytest --nbval` runs it, in a Python that has this project from its wheel alone.
NBVAL = """
import sys
sys.modules["rfc3987_syntax"] = None  # see conftest.py
import pytest
sys.exit(pytest.main(["-q", "-p", "nbval.plugin", "-p", "no:cacheprovider", *sys.argv[1:]]))
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


def copy_with_place(path: Path, folder: Path, library: Path) -> int:
    """Copy a notebook, with a cell behind it whose stored output says where the library lies.

    Returns the number of its code cells, that one included.
    """
    chapter = nbformat.read(path, as_version=4)
    place = nbformat.v4.new_output("stream", text=f"{library / '__init__.py'}\n")
    cell = nbformat.v4.new_code_cell(WHERE.strip(), execution_count=1, outputs=[place])
    chapter.cells.append(cell)
    nbformat.write(chapter, folder / path.name)
    return sum(cell.cell_type == "code" for cell in chapter.cells)


@pytest.mark.slow
@pytest.mark.parametrize("path", ALONE, ids=lambda path: path.stem)
def test_a_chapter_alone_in_an_empty_folder_shows_what_is_stored(path, wheel_python, tmp_path):
    """nbval, strictly: every cell runs, and prints what the notebook in the repository holds."""
    (library,) = wheel_python.parent.parent.glob("lib/*/site-packages/dpo_lab")
    cells = copy_with_place(path, tmp_path, library)
    sanitize = f"--nbval-sanitize-with={ROOT / 'tests' / 'nbval_sanitize.cfg'}"
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [wheel_python, "-c", NBVAL, "--nbval", sanitize, path.name],
        cwd=tmp_path,
        env=kept | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
    assert re.search(r"^(\d+) passed", done.stdout, re.MULTILINE)[1] == str(cells)


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


@pytest.mark.parametrize(("found", "said"), [(True, "GPU: Tesla T4"), (False, "no GPU: ")])
def test_set_up_on_colab_shows_explorers_and_says_whether_there_is_a_gpu(
    quiet_environment, capsys, found, said
):
    calls = []
    output = SimpleNamespace(enable_custom_widget_manager=lambda: calls.append("enabled"))
    quiet_environment.setitem(sys.modules, "google", SimpleNamespace())
    quiet_environment.setitem(sys.modules, "google.colab", SimpleNamespace(output=output))
    quiet_environment.setattr(torch.cuda, "is_available", lambda: found)
    quiet_environment.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    notebook.setup()
    assert calls == ["enabled"]
    assert capsys.readouterr().out.startswith(said)
