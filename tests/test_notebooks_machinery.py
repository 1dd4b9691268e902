"""Executing, remembering and storing chapters: what runs again, what is kept, what fails."""

from __future__ import annotations

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from execute import ChapterError, execute_chapters, store
from make_site import content_hash, mirror
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from normalise import UNSEEN, WIDGET_VIEW, normalise, pack_figure, text_of
from PIL import Image

COUNT = "with open('runs.txt', 'a') as f:\n    _ = f.write('x')"


@pytest.fixture
def kit(tmp_path) -> Path:
    """A tiny kit: a library of one file and no chapter yet."""
    for folder in ("dpo_lab", "notebooks", "book"):
        (tmp_path / folder).mkdir()
    (tmp_path / "dpo_lab" / "explorer.js").write_text("one")
    for name in ("constraints.txt", "_config.yml", "_toc.yml"):
        (tmp_path / name).write_text("")
    return tmp_path


def write(kit: Path, name: str, *code: str, prose: str = "# Title") -> Path:
    cells = [new_markdown_cell(prose, id="prose")]
    cells += [new_code_cell(source, id=f"code-{i}") for i, source in enumerate(code)]
    path = kit / "notebooks" / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    return path


def execute(kit: Path, **options):
    """In a thread of its own: playwright may hold this thread's event loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(execute_chapters, kit, **options).result()


def runs(kit: Path) -> int:
    return len((kit / "notebooks" / "runs.txt").read_text())


def test_a_chapter_runs_again_only_when_its_code_or_the_library_changed(kit):
    path = write(kit, "01_one", COUNT, "print(6 * 7)")
    first = execute(kit)[path]
    assert first.cells[2].outputs[0].text == "42\n"

    write(kit, "01_one", COUNT, "print(6 * 7)", prose="# Another title")
    recalled = execute(kit)[path]
    assert runs(kit) == 1
    assert recalled.cells[0].source == "# Another title"
    assert recalled.cells[2].outputs == first.cells[2].outputs
    assert recalled.metadata == first.metadata

    (kit / "dpo_lab" / "explorer.js").write_text("two")
    execute(kit)
    assert runs(kit) == 2
    execute(kit, again=True)
    assert runs(kit) == 3
    write(kit, "01_one", COUNT, "print(6 * 8)")
    assert execute(kit)[path].cells[2].outputs[0].text == "48\n"
    assert runs(kit) == 4


def test_a_failing_cell_is_named_and_the_other_chapters_are_remembered(kit):
    write(kit, "01_good", COUNT)
    write(kit, "02_bad", "x = 1", "x / 0")
    with pytest.raises(ChapterError, match=r"notebooks/02_bad\.ipynb, cell 2 .*\n(.*\n)*.*x / 0"):
        execute(kit)
    write(kit, "02_bad", "x = 1")
    execute(kit)
    assert runs(kit) == 1


def test_the_site_gets_executed_chapters_and_the_stored_ones_stay(kit, tmp_path_factory):
    path = write(kit, "01_one", "print('shown')")
    stored = path.read_bytes()
    source = tmp_path_factory.mktemp("mirror") / "source"
    mirror(kit, execute(kit), source)
    before = content_hash(source)
    shown = nbformat.read(source / "notebooks" / path.name, as_version=4)
    assert shown.cells[1].outputs[0].text == "shown\n"
    assert path.read_bytes() == stored
    mirror(kit, execute(kit), source)
    assert content_hash(source) == before  # nothing changed: the site is not built again
    (kit / "book" / "page.md").write_text("# New")
    mirror(kit, execute(kit), source)
    assert content_hash(source) != before


def test_storing_twice_changes_nothing_and_excused_outputs_are_no_reason(kit):
    code = "import time\nprint(time.perf_counter_ns())"
    path = write(kit, "01_one", code, "print(1)", "object()")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].metadata["tags"] = ["nbval-ignore-output"]
    nbformat.write(notebook, path)

    list(store(execute(kit)))
    stored = path.read_text()
    list(store(execute(kit, again=True)))
    assert path.read_text() == stored

    changed = stored.replace('"print(1)"', '"print(2)"')
    path.write_text(changed)
    list(store(execute(kit)))
    assert '"2\\n"' in path.read_text()


def test_a_notebook_that_would_be_too_large_is_refused(kit):
    path = write(kit, "01_one", "print(text)")
    stored = path.read_bytes()
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].outputs = [new_output("stream", text="x" * 500_000)]
    with pytest.raises(ChapterError, match=r"01_one\.ipynb: 50\d kB"):
        list(store({path: notebook}))
    assert path.read_bytes() == stored


def widget_view(model_id: str) -> nbformat.NotebookNode:
    data = {WIDGET_VIEW: {"model_id": model_id}, "text/plain": "<W object at 0x7ff0c0363610>"}
    return new_output("execute_result", data=data, execution_count=9)


def test_normalising_removes_what_a_run_leaves_behind():
    cell = new_code_cell(
        "W()",
        id="widget",
        execution_count=9,
        outputs=[widget_view("aa"), widget_view("bb")],
        metadata={"tags": ["t"], "execution": {"iopub.status.busy": "now"}, "scrolled": True},
    )
    other = new_code_cell("W()", id="other", execution_count=11, outputs=[widget_view("cc")])
    ran = new_notebook(
        cells=[new_code_cell("", id="empty"), cell, other],
        metadata={"widgets": {"state": {}}, "language_info": {"name": "python", "version": "3.9"}},
    )
    stored = normalise(ran)
    assert set(stored.metadata) == {"kernelspec", "language_info"}
    assert stored.metadata.language_info == {"name": "python"}
    assert [c.execution_count for c in stored.cells] == [None, 1, 2]
    assert stored.cells[1].metadata == {"tags": ["t"]}
    outputs = [output for c in stored.cells for output in c.outputs]
    assert len({output.data[WIDGET_VIEW].model_id for output in outputs}) == 3
    assert {output.data["text/plain"] for output in outputs} == {"<W object at 0x0>"}
    assert text_of(normalise(stored)) == text_of(stored)
    for each in (cell, other):
        for output in each.outputs:
            output.data[WIDGET_VIEW]["model_id"] += "new"
    assert text_of(normalise(ran)) == text_of(stored)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def drawn(picture: np.ndarray | None = None) -> bytes:
    """A figure as the notebooks show it: a few lines and, where given, an image."""
    fig, ax = plt.subplots()
    ax.plot([0.0, 1.0, 0.5], label="a line")
    ax.legend()
    if picture is not None:
        ax.imshow(picture)
    png = io.BytesIO()
    fig.savefig(png, format="png")
    plt.close(fig)
    return png.getvalue()


def test_a_figure_of_few_inks_is_packed_and_looks_the_same():
    png = drawn()
    packed = pack_figure(png)
    assert len(packed) < len(png) / 2
    assert np.abs(pixels(packed) - pixels(png)).max() <= UNSEEN
    assert np.abs(pixels(packed) - pixels(png)).mean() < 0.3
    assert pack_figure(packed) == packed


def test_a_figure_of_too_many_colours_keeps_each_of_them():
    noise = np.random.default_rng(0).random((60, 60, 3))
    png = drawn(noise)
    packed = pack_figure(png)
    assert Image.open(io.BytesIO(packed)).mode == "RGB"
    assert len(packed) < len(png)
    np.testing.assert_array_equal(pixels(packed), pixels(png))
    assert pack_figure(packed) == packed


def test_a_figure_that_lets_the_page_through_is_left_alone():
    png = io.BytesIO()
    Image.new("RGBA", (4, 4), (255, 0, 0, 128)).save(png, "PNG")
    assert pack_figure(png.getvalue()) == png.getvalue()


def test_storing_figures_twice_changes_nothing(kit):
    code = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"
    path = write(kit, "01_one", "%matplotlib inline", code)
    list(store(execute(kit)))
    stored = path.read_text()
    (figure,) = [
        output.data["image/png"]
        for output in nbformat.reads(stored, as_version=4).cells[2].outputs
        if "image/png" in output.get("data", {})
    ]
    assert Image.open(io.BytesIO(base64.b64decode(figure))).mode == "P"
    assert text_of(normalise(nbformat.read(path, as_version=4))) == stored
    list(store(execute(kit, again=True)))
    assert path.read_text() == stored
