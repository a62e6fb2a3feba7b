"""Windows of the standard library: characters are what Python's tokenizer says, and no file feeds both sides."""

import numpy as np
import pytest

from scaling.data.sources import stdlib
from scaling.data.sources.bundled import load_stdlib
from scaling.data.sources.stdlib import CLASSES, encode, label_characters, read_sources
from scaling.specs.base import InputError
from scaling.specs.data import StdlibSource


def test_a_character_is_what_pythons_tokenizer_says():
    text = "def f():  # why\n    '''doc\n    more'''\n    return f'a{1 + 1}b' + \"#no\"\n"
    characters, classes = label_characters(text.encode())
    assert "".join(map(chr, characters)) == text
    found = {name: "".join(c for c, k in zip(text, classes, strict=True) if CLASSES[k] == name) for name in CLASSES}
    assert found["comment"] == "# why"
    assert found["string"] == "'''doc\n    more'''f'a{1 + 1}b'\"#no\""


def test_what_is_not_python_is_left_out():
    assert label_characters(b"def (:\n  '''") is None
    assert label_characters(b"x = '\xff'\n") is None


def test_tokens_fold_case_and_digits():
    codes = encode(np.array([ord(c) for c in "aA09é\t"], np.uint32))
    assert codes[0] == codes[1]
    assert codes[2] == codes[3]
    assert codes[4] == codes[5] == stdlib.OTHER
    assert codes.max() < stdlib.VOCAB_SIZE


def test_library_windows_hold_what_they_claim():
    source = load_stdlib(StdlibSource(num_windows=5000), 2000)
    assert source.inputs.shape == (5000, 16)
    assert source.inputs.max() < stdlib.VOCAB_SIZE
    shares = np.bincount(source.labels, minlength=3) / 5000
    assert (shares > 0.05).all()
    hash_sign = stdlib.ALPHABET.index("#")
    centre = source.inputs[:, 8]
    assert (source.labels[centre == hash_sign] != 0).all()  # `#` is never code


def test_more_windows_than_the_library_has_are_refused_with_their_number(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    files = [b"x = 1\n" * (10 + number) for number in range(40)]  # of one side or the other by their content
    monkeypatch.setattr(stdlib, "read_sources", lambda: iter(files))
    with pytest.raises(InputError, match=r"^data\.source\.num_windows=1000000000 exceeds the \d{4} windows of this Py"):
        load_stdlib(StdlibSource(num_windows=10**9), 100)


@pytest.mark.parametrize(
    ("spec", "evaluation_size", "message"),
    [
        (StdlibSource(num_windows=10**9), 100, "data.source.num_windows=1000000000 exceeds the"),
        (StdlibSource(num_windows=100), 10**9, "data.evaluation_size=1000000000 exceeds the"),
        (
            StdlibSource(num_windows=100, characters_before=10**9),
            100,
            "characters_after=1000000007 in all are more than",
        ),
    ],
)
def test_what_the_files_are_too_small_for_is_refused_before_they_are_tokenised(
    monkeypatch, spec, evaluation_size, message
):
    monkeypatch.setattr(stdlib, "label_characters", None)
    monkeypatch.setattr(stdlib, "load_or_make", None)
    with pytest.raises(InputError, match=message):
        load_stdlib(spec, evaluation_size)


def test_library_files_feed_one_side_only(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sources = list(read_sources())
    assert len(sources) == len(set(sources)) > 100
    seen = []
    monkeypatch.setattr(stdlib, "_draw", lambda files, *rest: seen.append(set(files)) or (np.zeros(1), np.zeros(1)))
    stdlib.draw_windows(8, 7, 1, 1, 0)
    train, held_out = seen
    assert not train & held_out
    assert 0.1 < len(held_out) / len(sources) < 0.3
