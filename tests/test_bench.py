"""The benchmark: equal losses or no timing, needed arithmetic by hand, what it says of itself."""

from __future__ import annotations

import io
import json
import subprocess

import pytest
import torch
from conftest import ROOT

from dpo_lab.bench import command, jobs, shapes
from dpo_lab.bench.command import BenchConfig, bench, largest_difference
from dpo_lab.bench.contenders import CONTENDERS, LADDER, Job
from dpo_lab.bench.floors import needed_flops
from dpo_lab.bench.jobs import run
from dpo_lab.bench.report import lines, page_markdown, verdicts
from dpo_lab.bench.shapes import Shape, as_text, make_pairs, word_tokenizer
from dpo_lab.bench.tables import table_markdown
from dpo_lab.cli import main
from dpo_lab.encoded import EncodedPair, EncodedResponse
from dpo_lab.errors import InputError

RESULTS = ROOT / "book" / "results"
DWARF = Shape(32, 2, 4, 2, 48, 60, pairs=2, steps=2, warm=1)
OURS = [("loop", True), ("ours", True), ("ours", False)]


@pytest.fixture
def dwarf(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model on which everything takes a moment, and jobs that run in this process."""
    monkeypatch.setitem(shapes.SHAPES, "dwarf", DWARF)
    monkeypatch.setattr("dpo_lab.bench.floors.LARGE", 32)
    monkeypatch.setattr(command, "CHECKED_STEPS", 2)
    monkeypatch.setattr(command, "CHECKED", ("plain", "ours", "loop"))
    monkeypatch.setattr(command, "ROWS", OURS)


def test_ours_train_alike_are_timed_and_reported(dwarf, tmp_path) -> None:
    said: list[str] = []
    file = tmp_path / "bench.json"
    config = BenchConfig(shapes=["dwarf"], rounds=1, output=str(file))
    bench(config, start=run, say=said.append)
    entry = json.loads(file.read_text())["shapes"]["dwarf"]
    assert entry["largest_difference"] < 1e-4
    assert [len(row["seconds"]) for row in entry["rows"]] == [1] * len(OURS)
    assert sum(entry["profiles"]["half"]["kinds"].values()) == pytest.approx(1)
    page = file.with_suffix(".md").read_text()
    assert page == page_markdown(json.loads(file.read_text()), "bench")
    assert "| dpo_lab, bare loop | bfloat16 |" in page
    assert file.with_suffix(".png").stat().st_size > 5000
    file.write_text('{"years": "of work"}')
    with pytest.raises(InputError, match="holds no benchmark"):
        bench(config, start=run, say=said.append)


def test_where_the_fast_path_does_not_fit_the_row_says_so(dwarf, monkeypatch) -> None:
    monkeypatch.setattr("dpo_lab.bench.ours.why_not_fast", lambda *_: "no such kernel")
    measured = run("train", Job("ours", "dwarf", False, 1, 0, 2))
    assert measured["remark"] == "plain path: no such kernel"


def test_each_technique_of_the_ladder_gives_the_same_losses(dwarf) -> None:
    said: list[str] = []
    results = bench(BenchConfig(shapes=["dwarf"], rounds=1, ladder=True), run, said.append)
    entry = results["shapes"]["dwarf"]
    assert entry["largest_difference"] < 1e-4
    assert [row["contender"] for row in entry["rows"]] == list(LADDER)


def test_a_contender_that_trains_otherwise_stops_everything(dwarf, monkeypatch, capsys) -> None:
    tasks = []

    def mistaken(task: str, job: Job) -> dict:
        tasks.append((task, job.steps))
        return run(task, job._replace(beta=0.2) if job.contender == "ours" else job)

    monkeypatch.setattr(command.jobs, "start", mistaken)
    assert main(["bench", "--shapes", "dwarf"]) == 2
    assert "nothing was timed" in capsys.readouterr().err
    assert tasks == [("train", 2)] * 3
    assert not largest_difference({"a": [0.7], "b": [float("nan")]}) <= 1e-4


@pytest.mark.parametrize("name", ["trl-default", "trl-precomputed", "trl-best"])
def test_trl_trains_as_ours_does(name: str, dwarf) -> None:
    pytest.importorskip("trl")
    ours, theirs = (run("train", Job(who, "dwarf", False, 2, 0, 2)) for who in ("ours", name))
    both = {"ours": ours["losses"], "theirs": theirs["losses"]}
    assert len(theirs["losses"]) == len(theirs["seconds"]) == 2
    assert largest_difference(both) < 1e-4
    assert abs(ours["losses"][1] - ours["losses"][0]) > 5e-4  # it did learn something


def test_a_process_of_its_own_reports_and_names_its_mistake(dwarf, monkeypatch, capsys) -> None:
    def process(command: list[str], input: str, **_: object) -> subprocess.CompletedProcess:
        """What the process would do, in this one."""
        assert command[1:] == ["-m", "dpo_lab.bench.jobs"]
        monkeypatch.setattr("sys.stdin", io.StringIO(input))
        try:
            jobs.main()
        except KeyError as error:
            return subprocess.CompletedProcess(command, 1, "", f"Traceback\nKeyError: {error}\n")
        return subprocess.CompletedProcess(command, 0, "noise\n" + capsys.readouterr().out, "")

    monkeypatch.setattr(subprocess, "run", process)
    measured = jobs.start("train", Job("plain", "dwarf", False, 1, 1, 1))
    assert [len(measured[name]) for name in ("losses", "seconds")] == [2, 2]
    assert measured["peak_bytes"] >= measured["base_bytes"] > 1e7
    with pytest.raises(InputError, match="nobody on dwarf: KeyError: 'nobody'"):
        jobs.start("train", Job("nobody", "dwarf", False, 1, 0, 1))


def test_text_has_the_tokens_of_its_ids() -> None:
    tokenizer = word_tokenizer(60)
    for pair in make_pairs(3, 60):
        row = as_text(pair)
        ids = tokenizer(row["prompt"] + row["chosen"])["input_ids"]
        assert [*ids, shapes.EOS] == pair.chosen.input_ids


def test_needed_arithmetic_by_hand() -> None:
    """One block of width 2 and a vocabulary of 5; prompt 2, chosen 1, rejected 3 tokens."""
    shape = Shape(2, 1, 1, 1, 3, 5, pairs=1, steps=1, warm=0)
    pair = EncodedPair(EncodedResponse([4] * 3, 2), EncodedResponse([4] * 5, 2))
    linear = 6 * (4 * 2 * 2 + 3 * 2 * 3)  # 6 tokens; q, k, v, o; gate, up, down
    attention = (3**2 + 5**2 - 2**2) / 2 * 2 * 2
    head = 4 * 2 * 5
    assert needed_flops(shape, [pair]) == 6 * (linear + attention + head)


def test_lines_and_verdicts_by_hand() -> None:
    def row(name: str, half: bool, seconds: list[float], setup: float, peak: int) -> dict:
        many = {"setup": [setup] * 3, "peak_bytes": [peak << 20] * 3, "base_bytes": [50 << 20] * 3}
        many |= {"contender": name, "label": name, "remark": ""}
        return many | {"half": half, "seconds": seconds}

    rate = {"flops_per_second": 1e9, "own_flops": 1e9, "own_seconds": 2.0}
    entry = {
        "steps": 2, "warm": 2, "pairs": 4, "half": "bfloat16", "needed_flops": 1e9,
        "rates": {"half": rate, "float32": rate},
        "profiles": {"half": {"kinds": {"products": 0.25}}},
        "rows": [
            row("trl-default", True, [9.0, 8.0, 10.0], 0.0, 400),
            row("trl-best", True, [8.0, 4.0, 6.0], 4.0, 200),
            row("ours", True, [2.5, 2.0, 1.5], 2.0, 150),
        ],
    }  # fmt: skip
    default, best, ours = lines(entry)
    assert (best.median, best.low, best.high) == (3.0, 2.0, 4.0)
    assert (default.faster, ours.faster, best.faster) == (6 / 9, 3.0, 1.0)
    assert ours.faster_epoch == (6 + 4 / 2) / (2 + 2 / 2)
    assert (ours.pairs_per_second, ours.memory, ours.floor) == (4.0, 0.75, 0.5)
    assert verdicts("tiny", entry) == [
        "bfloat16, speed beside TRL's best: 3.00, wanted at least 3.5: **falls short**.",
        "bfloat16, peak memory beside it: 0.75, wanted at most 0.7: **falls short**.",
        "bfloat16, share of the floor: 0.50, wanted at least 0.45: reached.",
        "Why, in bfloat16: 50 of the 150 MB are libraries and weights, there before anything is "
        "trained and the same for all.",
        "Why, in bfloat16: a profile of the bare loop gives products 25% of the time; and the "
        "model's own products, alone, run at 50% of the rate that the floor is computed with.",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shapes": ["huge"]}, "unknown 'huge'; known: tiny, small"),
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"device": "cuda"}, "there is none here"),
    ],
)
def test_mistakes_are_named(options: dict, message: str, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=message):
        BenchConfig(**options)


def test_every_row_has_a_contender() -> None:
    named = {name for name, _ in command.ROWS + command.LADDER_ROWS} | set(command.CHECKED)
    assert named == set(CONTENDERS)


def test_what_the_book_shows_is_what_was_measured() -> None:
    tables = ("scoring", "scaling", "solvers", "redraw")
    shown = {file.stem for file in RESULTS.glob("*.md")}
    assert shown == {"bench_cpu", "bench_cuda", "ladder_cpu", *tables}
    for name in shown:
        file = RESULTS / f"{name}.json"
        results = json.loads(file.read_text()) if file.is_file() else None
        expected = table_markdown(results) if name in tables else page_markdown(results, name)
        assert (RESULTS / f"{name}.md").read_text() == expected, name
        assert (RESULTS / f"{name}.png").is_file() == (name not in tables and results is not None)
