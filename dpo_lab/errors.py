"""The one error that bad input raises, so that a caller can tell it from a bug."""

from __future__ import annotations


class InputError(ValueError):
    """Something the caller gave is wrong; the message names the argument, file, row or field.

    The command line prints the message alone and exits with code 2. Any other exception
    is a defect of the library and keeps its traceback.
    """
