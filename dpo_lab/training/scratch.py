"""Where a run keeps text and token ids while it works on them: files that are gone when it ends."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from dpo_lab.errors import InputError
from dpo_lab.training.write_failures import writing

_PREFIX, _SUFFIX, _LOCK = "rows.", ".unfinished", "lock"


@contextlib.contextmanager
def scratch_folder(root: Path) -> Iterator[Path]:
    """A new folder under `root` for this process, which is made too; both are gone at the end,
    `root` where nothing else came to lie in it."""
    made = [path for path in (root, *root.parents) if not path.exists()]
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=root, prefix=_PREFIX, suffix=_SUFFIX))
        lock = FileLock(folder / _LOCK)
        lock.acquire()  # the system lets go of it when this process ends, however it does
    try:
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # of the first one that is not empty
            for path in made:
                path.rmdir()


def left_overs(root: Path) -> list[Path]:
    """Folders that killed runs left under `root`."""
    return list(root.glob(f"{_PREFIX}*{_SUFFIX}"))


def remove_left_overs(root: Path) -> None:
    """Remove what killed runs left under `root`. Raises `InputError` if a run is at work there."""
    for folder in left_overs(root):
        try:
            with FileLock(folder / _LOCK, blocking=False):
                pass
        except Timeout:
            raise InputError(f"output_dir {root}: another run is at work there") from None
        shutil.rmtree(folder, ignore_errors=True)
