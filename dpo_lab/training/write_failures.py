"""A disk that is full, or that nothing may be written to: what to say, and what is left."""

from __future__ import annotations

import errno

from safetensors import SafetensorError

from dpo_lab.training.checkpoints import complete_checkpoints
from dpo_lab.training.run_folder import RunFolder

_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EIO)
# torch and safetensors have errors of their own for it.
_WORDS = ("PytorchStreamWriter", "No space left", "File too large", "os error")


def is_write_failure(error: BaseException) -> bool:
    """Whether an exception says that a file could not be written."""
    if isinstance(error, OSError):
        return error.errno in _NUMBERS
    own = isinstance(error, (SafetensorError, RuntimeError))
    return own and any(word in str(error) for word in _WORDS)


def after_write_failure(run: RunFolder, error: BaseException) -> str:
    """One message: why, and which checkpoint is whole."""
    first = str(error).strip().splitlines()[0]
    complete = complete_checkpoints(run.checkpoints)
    left = "there is no checkpoint yet"
    if complete:
        left = f"{complete[max(complete)].name} is whole; make room and go on with --resume"
    return f"output_dir {run.root}: writing failed ({first}); {left}"
