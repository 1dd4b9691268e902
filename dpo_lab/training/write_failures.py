"""A disk that is full, or that nothing may be written to: what to say, and what is left."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from dpo_lab.errors import InputError

_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EIO)
# torch and safetensors have errors of their own for it.
_WORDS = ("PytorchStreamWriter", "No space left", "File too large", "os error")


class WriteError(InputError):
    """A file could not be written; the message names it."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise `WriteError`, which names `path`, where what is done inside cannot write it."""
    try:
        yield
    except WriteError:  # of a file below, which is nearer
        raise
    except Exception as error:
        # Here any error of the system's is one of writing: also a folder that is gone.
        if isinstance(error, OSError) or is_write_failure(error):
            raise WriteError(f"{path}: writing failed ({_first_line(error)})") from error
        raise


def is_write_failure(error: BaseException) -> bool:
    """Whether an exception says that a file could not be written."""
    if isinstance(error, WriteError):
        return True
    if isinstance(error, OSError):
        return error.errno in _NUMBERS
    own = isinstance(error, (SafetensorError, RuntimeError))
    return own and any(word in str(error) for word in _WORDS)


def after_write_failure(root: Path, complete: Iterable[Path], error: BaseException) -> str:
    """One message: what failed in the run in `root`, and which checkpoint is whole.

    complete: the whole checkpoints, oldest first.
    """
    said = f"writing failed ({_first_line(error)})"
    if isinstance(error, WriteError):
        said = str(error)
    return f"output_dir {root}: {said}; {what_is_left(root, complete, 'make room and ')}"


def what_is_left(root: Path, complete: Iterable[Path], first: str = "") -> str:
    """Which checkpoint the run in `root` can go on from, and what must be done `first`."""
    *_, last = (None, *complete)
    left = "no whole checkpoint lies there" if last is None else f"{last.name} is whole"
    begun = last is not None or (root / "run.json").is_file()  # else nothing was computed yet
    return f"{left}; {first}{'go on with --resume' if begun else 'start again'}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
