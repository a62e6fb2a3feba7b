"""What goes wrong in a file that a user has written, as one line that names the file and the line."""

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from scaling.specs.base import InputError, describe_error


@contextlib.contextmanager
def blame(path: Path, note: str = "") -> Iterator[None]:
    """Returns a context in which a user's file is imported or called: what it raises becomes an `InputError`.

    The exception stays the error's cause, for who wants its traceback. To stop (Ctrl-C) is no mistake, and passes.

    Args:
      path: the file.
      note: what its code was given, which may be why it refuses.

    Raises:
      InputError: anything else was raised; it names the file, its line and what went wrong.
    """
    try:
        yield
    except InputError as error:
        raise type(error)(f"{_place(path, error)}: {error}{note}") from error
    except (Exception, SystemExit) as error:
        raise InputError(f"{_place(path, error)}: {_describe(error)}") from error


def _place(path: Path, error: BaseException) -> str:
    """Returns the file, and the innermost of its lines that an error went through, if any."""
    if isinstance(error, SyntaxError) and error.filename and _is_same(error.filename, path):
        return f"{path}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if _is_same(frame.filename, path)]
    return f"{path}, line {lines[-1]}" if lines else str(path)


def _is_same(filename: str, path: Path) -> bool:
    return Path(filename).resolve() == path.resolve()


def _describe(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        return describe_error(error)
    kind, text = type(error).__name__, error.msg if isinstance(error, SyntaxError) else str(error)
    line = f"{kind}: {text.splitlines()[0]}" if text.strip() else kind
    if isinstance(error, ModuleNotFoundError):
        return f"{line}; install it, or name its folder in PYTHONPATH"
    return line
