"""Output that cannot be written: one message that names it, and the last checkpoint resumes."""

from __future__ import annotations

import errno
import json
import os
import resource
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors import SafetensorError

from dpo_lab.cli import main
from dpo_lab.errors import InputError
from dpo_lab.training.checkpoints import COMPLETE, CheckpointMarker
from dpo_lab.training.run_folder import RunFolder
from dpo_lab.training.write_failures import WriteError, is_write_failure

pytestmark = pytest.mark.usefixtures("unrendered")
SETTINGS = ["--max_steps", "6", "--save_steps", "2", "--eval_steps", "2", "--logging_steps", "1"]
SETTINGS += ["--max_length", "64", "--sample_prompts", "2", "--max_new_tokens", "4"]
SETTINGS += ["--learning_rate", "1e-3"]
NO_MORE = 20_000  # bytes a file may have on the disk that is full


def train(pair_file: Path, tiny_model: Path, run: Path, *more: str) -> int:
    where = ["--pairs", str(pair_file), "--model", str(tiny_model), "--output_dir", str(run)]
    return main(["train", *where, *SETTINGS, *more])


@pytest.fixture(scope="module")
def undisturbed(pair_file, tiny_model, tmp_path_factory) -> str:
    """The hash of the weights at the end of the same run on a good disk."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPO_LAB_CACHE", str(run.parent / "cache"))
        patch.setattr("matplotlib.figure.Figure.savefig", lambda figure, file, **_: file.touch())
        assert train(pair_file, tiny_model, run) == 0
    return json.loads((run / "run.json").read_text())["model_sha256"]


@contextmanager
def small_files(run: Path) -> Iterator[None]:
    """No file may grow: what is written beyond fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (NO_MORE, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def full(name: str) -> Callable[[Path], Iterator[None]]:
    """One log lies on a device that is full; half a line is left of what was written."""

    @contextmanager
    def broken(run: Path) -> Iterator[None]:
        kept = (run / name).rename(run / "kept")
        (run / name).symlink_to("/dev/full")
        yield
        kept.replace(run / name)
        with (run / name).open("a") as file:
            file.write('{"step": 4, "te')

    return broken


@contextmanager
def gone(run: Path) -> Iterator[None]:
    """Where the run's folder was there is a file now."""
    away = run.rename(run.with_name("away"))
    run.touch()
    yield
    run.unlink()
    away.rename(run)


@contextmanager
def taken(run: Path) -> Iterator[None]:
    """Where the next checkpoint should be there is a file."""
    place = run / "checkpoints" / "checkpoint-4"
    place.touch()
    yield
    place.unlink()


CASES = {
    "full disk, checkpoint": (2, small_files, "checkpoints/checkpoint-4"),
    "full disk, model": (6, small_files, "model"),
    "full disk, metrics": (2, full("metrics.jsonl"), "metrics.jsonl"),
    "full disk, samples": (2, full("samples.jsonl"), "samples.jsonl"),
    "folder gone": (4, gone, "metrics.jsonl"),
    "place taken": (2, taken, "checkpoints/checkpoint-4"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_run_that_cannot_write_says_so_and_goes_on_later(
    name, pair_file, tiny_model, undisturbed, cache, tmp_path, monkeypatch, capsys
) -> None:
    at, sabotage, file = CASES[name]
    run, broken = tmp_path / "run", []
    on_save = CheckpointMarker.on_save

    def then_break(self, args, state, control, **more) -> None:
        on_save(self, args, state, control, **more)
        if state.global_step == at:
            broken.append(sabotage(run))
            broken[0].__enter__()

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointMarker, "on_save", then_break)
        try:
            status = train(pair_file, tiny_model, run)
        finally:
            broken[0].__exit__(None, None, None)
    said = capsys.readouterr().err.rstrip("\n").rpartition("\n")[2]  # a line, and the last
    assert status == 2
    assert said.startswith(f"dpo-lab train: output_dir {run}: {run / file}: writing failed (")
    left = "no whole checkpoint lies there" if name == "folder gone" else f"checkpoint-{at} is"
    assert left in said
    assert (run / "checkpoints" / f"checkpoint-{at}" / COMPLETE).is_file()
    assert not (run / "model").exists()

    assert train(pair_file, tiny_model, run, "--resume") == 0
    assert f"going on from {run / 'checkpoints' / f'checkpoint-{at}'}\n" in capsys.readouterr().out
    assert json.loads((run / "run.json").read_text())["model_sha256"] == undisturbed
    rows = RunFolder(run).read_metrics()
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in RunFolder(run).read_samples()] == [0, 0, 2, 2, 4, 4, 6, 6]


@contextmanager
def protected(folder: Path) -> Iterator[None]:
    """`folder` may be read and not be written to, by anybody who may do less than everything."""
    folder.parent.chmod(0o755)
    folder.chmod(0o555)
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(me)
        folder.chmod(0o755)


def test_a_folder_that_nothing_can_be_written_into_stops_a_run_before_any_work(capsys) -> None:
    """The pairs do not exist, so reading them would be another message."""
    with tempfile.TemporaryDirectory() as root:  # not in pytest's own, which only its owner enters
        folder = Path(root, "folder")
        folder.mkdir()
        words = ["train", "--pairs", "no such file", "--output_dir"]
        with protected(folder):
            assert main([*words, str(folder / "run")]) == 2
        (folder / "run.json").write_text("{}")
        with protected(folder):
            assert main([*words, str(folder), "--resume"]) == 2
            file = folder / "metrics.jsonl"
            with pytest.raises(WriteError, match=f"{file}: writing failed .*Permission denied"):
                RunFolder(folder).append_metrics({})
        assert sorted(path.name for path in folder.iterdir()) == ["run.json"]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all(f"nothing can be written below {folder}" in line for line in said)


def test_the_first_stage_names_what_it_cannot_write(cache, tmp_path, capsys) -> None:
    run = tmp_path / "run"
    words = ["train", "--world_pairs", "40", "--vocab_size", "320", "--sft_epochs", "1"]
    words += ["--hidden_size", "16", "--num_hidden_layers", "1", "--num_attention_heads", "2"]
    with small_files(run):
        assert main([*words, "--output_dir", str(run)]) == 2
    said = capsys.readouterr().err.rstrip("\n").rpartition("\n")[2]
    assert said.startswith(f"dpo-lab train: output_dir {run}: {run / 'sft_checkpoints'}/checkpoint")


def test_a_cache_that_cannot_be_written_is_named(
    pair_file, tiny_model, tmp_path, monkeypatch, capsys
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DPO_LAB_CACHE", str(tmp_path / "file" / "cache"))
    assert train(pair_file, tiny_model, tmp_path / "run") == 2
    (said,) = capsys.readouterr().err.rstrip("\n").split("\n")[-1:]
    assert f"{tmp_path / 'file' / 'cache' / 'reference-'}" in said
    assert "writing failed ([Errno 20] Not a directory" in said


def test_results_that_cannot_be_written_are_known_before_the_work(tmp_path, capsys) -> None:
    words = ["score", "--pairs", "p", "--policy", "m", "--reference", "m", "--output"]
    assert main([*words, str(tmp_path / "none" / "scores.jsonl")]) == 2
    assert f"there is no folder {tmp_path / 'none'}" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.ENOENT])
def test_a_write_failure_names_its_file(number, tmp_path, monkeypatch) -> None:
    """Also where the system's error does not."""
    run = RunFolder(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", refuse)
    for write, file in (
        (lambda: run.append_metrics({}), run.metrics_file),
        (lambda: run.append_samples([]), run.samples_file),
        (lambda: run.write_run({}), run.run_file),
    ):
        with pytest.raises(InputError, match=f"{file}: writing failed .*{os.strerror(number)}"):
            write()


def test_what_counts_as_a_write_failure() -> None:
    assert is_write_failure(OSError(errno.ENOSPC, "No space left on device"))
    assert is_write_failure(RuntimeError("[enforce fail] PytorchStreamWriter failed writing file"))
    assert is_write_failure(SafetensorError('IoError(Os { code: 28, message: "No space left" })'))
    assert not is_write_failure(FileNotFoundError(errno.ENOENT, "No such file"))
    assert not is_write_failure(RuntimeError("shapes do not match"))
