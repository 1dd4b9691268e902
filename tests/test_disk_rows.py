"""What is written to the disk comes back equal, whatever its type; a full disk is an error."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from dpo_lab import disk_rows
from dpo_lab.disk_rows import write_rows
from dpo_lab.encoded import EncodedPair, EncodedResponse
from dpo_lab.pair_types import Message, PreferencePair, UnpairedExample

TALK = (Message("system", ""), Message("user", "привет 🙂\r\n\u2028"))
ROWS = {
    "pairs": [
        PreferencePair("a", " b", "c\0d"),
        PreferencePair("", "é", "🙂" * 500, 0.1 + 0.2),
        PreferencePair("a", "b", "c", -0.0),
    ],
    "talks": [PreferencePair(TALK, "b", "c", 2.5), PreferencePair(TALK[1:], "b", "c")],
    "unpaired": [UnpairedExample("a", "b", True), UnpairedExample(TALK, "\n", False)],
    "encoded": [
        EncodedPair(EncodedResponse([1, 2, 2**31 - 1], 2), EncodedResponse([0, 5], 1)),
        EncodedPair(EncodedResponse(list(range(700)), 699), EncodedResponse([1, 5, 2], 1)),
    ],
    "responses": [EncodedResponse([1, 2, 3], 1), EncodedResponse([3, 2, 1, 0], 3)],
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("times", [1, 3])
def test_every_type_of_row_comes_back_equal(name, times, tmp_path, monkeypatch) -> None:
    """Batches that are full, and a last one that is not."""
    monkeypatch.setattr(disk_rows, "BATCH", 2)
    given = ROWS[name] * times
    rows = write_rows(tmp_path / "rows.arrow", iter(given))
    assert list(rows) == given
    assert [repr(row) for row in rows] == [repr(row) for row in given]  # -0.0, and every type
    assert rows[-1] == given[-1]
    assert rows[1:] == given[1:]
    with pytest.raises(IndexError):
        rows[len(given)]


def test_no_rows_are_none(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.arrow", iter(()))
    assert (len(rows), list(rows)) == (0, [])


def test_no_more_rows_are_taken_than_are_written_at_once(tmp_path: Path, monkeypatch) -> None:
    """Each row counts itself while it is alive."""
    alive, most = 0, 0

    class Counted(str):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def rows():
        nonlocal alive, most
        for number in range(500):
            alive += 1
            most = max(most, alive)
            yield PreferencePair(Counted(number), "b", "c")

    monkeypatch.setattr(disk_rows, "BATCH", 10)
    stored = write_rows(tmp_path / "rows.arrow", rows())
    assert stored[499].prompt == "499"
    assert (most <= 30, alive) == (True, 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_a_full_disk_is_an_error_of_the_system(tmp_path: Path) -> None:
    """The command tells it from others by its number."""
    with pytest.raises(OSError, match="No space left") as caught:
        write_rows(Path("/dev/full"), iter(ROWS["responses"]))
    assert caught.value.errno == errno.ENOSPC
