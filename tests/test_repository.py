"""One address, in pyproject.toml; every other place follows it, and can follow it elsewhere."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
import repository
import yaml
from conftest import ROOT

NEW = "https://github.com/somebody/else.where"


@pytest.fixture
def tree(tmp_path) -> Path:
    """A copy of the checkout's files, with one more chapter that has no set-up yet."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "notebooks").mkdir(exist_ok=True)
    chapter = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("# A new chapter\n\nIts question.", id="title"),
            nbformat.v4.new_code_cell("1 + 1", id="sum"),
        ]
    )
    nbformat.write(chapter, tmp_path / "notebooks" / "99_new.ipynb")
    return tmp_path


def contents(tree: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def test_every_place_follows_the_one_address(capsys):
    assert repository.main(["--check"]) == 0, capsys.readouterr().out


def test_a_move_reaches_every_file_and_a_move_back_restores_every_byte(tree):
    old = repository.address(tree)
    repository.main([], root=tree)  # the new chapter gets its set-up
    before = contents(tree)
    assert repository.main([NEW], root=tree) == 0
    assert repository.main(["--check"], root=tree) == 0
    assert repository.address(tree) == NEW
    old_name = old.removeprefix("https://github.com/").encode()
    assert [p for p, held in contents(tree).items() if old_name in held] == []
    repository.main([old], root=tree)
    assert contents(tree) == before


def test_the_launch_buttons_lead_to_the_notebooks(tree):
    repository.main([NEW + ".git"], root=tree)
    config = yaml.safe_load((tree / "_config.yml").read_text(encoding="utf-8"))
    assert config["repository"] == {"url": NEW, "branch": "main", "path_to_book": ""}
    assert config["launch_buttons"]["colab_url"] == "https://colab.research.google.com"


def test_a_new_chapter_gets_its_link_and_its_set_up_cell(tree):
    repository.main([NEW], root=tree)
    title, setup, *others = nbformat.read(tree / "notebooks" / "99_new.ipynb", 4).cells
    assert title.source == (
        "# A new chapter\n\n[Open in Colab](https://colab.research.google.com/github/"
        "somebody/else.where/blob/main/notebooks/99_new.ipynb)\n\nIts question."
    )
    assert f"git+{NEW}" in setup.source
    assert {"setup", "nbval-ignore-output"} <= set(setup.metadata.tags)
    assert [cell.source for cell in others] == ["1 + 1"]


@pytest.mark.parametrize("name", ["_config.yml", "CITATION.cff", "README.md", "99_new.ipynb"])
def test_a_place_that_does_not_follow_is_named(tree, capsys, name):
    repository.main([], root=tree)
    (path,) = tree.glob(f"**/{name}")
    text = path.read_text(encoding="utf-8")
    name_there = repository.address(tree).removeprefix("https://github.com/")
    path.write_text(text.replace(name_there, "another/place", 1), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != text
    capsys.readouterr()
    assert repository.main(["--check"], root=tree) == 1
    assert f"{name} differs" in capsys.readouterr().out


@pytest.mark.parametrize(
    "url", ["dpo_lab", "https://gitlab.com/a/b", "https://github.com/a", "a b"]
)
def test_an_address_that_colab_cannot_open_is_refused(tree, capsys, url):
    before = contents(tree)
    with pytest.raises(SystemExit) as stopped:
        repository.main([url], root=tree)
    assert stopped.value.code == 2
    assert url in capsys.readouterr().err
    assert contents(tree) == before
