"""What users' files raise is told by file and line, and to stop is no mistake."""

import pytest

from scaling.specs.base import InputError, UnknownPathError
from scaling.specs.blame import blame


def run(path, text):
    path.write_text(text)
    exec(compile(text, str(path), "exec"), {"InputError": InputError, "UnknownPathError": UnknownPathError})  # noqa: S102


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\n1 / 0", "line 3: ZeroDivisionError: division by zero"),
        ("def f():\n  assert False\nf()", "line 2: AssertionError"),
        ("import json\njson.loads('{')", "line 2: JSONDecodeError: Expecting property name"),
        ("raise ValueError('a\\nb')", "line 1: ValueError: a"),
        ("import sys\nsys.exit(3)", "line 2: SystemExit: 3"),
    ],
)
def test_the_line_is_that_of_the_file_and_the_exception_stays_the_cause(tmp_path, text, message):
    path = tmp_path / "mine.py"
    with pytest.raises(InputError) as caught, blame(path):
        run(path, text)
    assert str(caught.value).startswith(f"{path}, {message}")
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


def test_a_refusal_keeps_its_kind_and_says_what_was_given(tmp_path):
    path = tmp_path / "mine.py"
    with (
        pytest.raises(UnknownPathError, match=r"mine.py, line 1: no \(with --set n=0\)$"),
        blame(path, " (with --set n=0)"),
    ):
        run(path, "raise UnknownPathError('no')")


def test_to_stop_is_no_mistake(tmp_path):
    with pytest.raises(KeyboardInterrupt), blame(tmp_path / "mine.py"):
        raise KeyboardInterrupt


def test_what_goes_wrong_outside_of_the_file_names_the_file_alone(tmp_path):
    path = tmp_path / "mine.py"
    with pytest.raises(InputError, match=r"mine\.py: ValueError: \?"), blame(path):
        raise ValueError("?")
