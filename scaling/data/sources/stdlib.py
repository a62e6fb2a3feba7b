"""Labelled windows of the Python standard library's own source: real data that every machine already has."""

import hashlib
import io
import os
import sys
import sysconfig
import tokenize
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from scaling.specs.base import InputError
from scaling.store.cache import load_or_make

CLASSES = ("code", "comment", "string")
COMMENT, STRING = 1, 2

# Letters without case, one sign for all digits, and the rest of printable ASCII; anything else is `other`.
ALPHABET = "abcdefghijklmnopqrstuvwxyz0 \n_()[]{}=,.:;'\"#+-*/<>!%@&|^~\\?$`"
VOCAB_SIZE = len(ALPHABET) + 1
OTHER = len(ALPHABET)

# Not part of the library proper: installed packages, tests with their odd files, and generated trees.
SKIPPED_FOLDERS = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "lib2to3"})
EVALUATION_SHARE = 5  # one file in so many is held out


def draw_windows(before: int, after: int, num_windows: int, num_eval_windows: int, seed: int) -> list[np.ndarray]:
    """Returns windows of characters around random positions, labelled by what the character at the position is.

    Files are deduplicated by content and split by the hash of their content, so no file feeds both sets. The label is
    what Python's own tokenizer says of the character: code, comment or string (docstrings are strings).

    Args:
      before: characters of context before the labelled one.
      after: characters of context after it.
      num_windows: positions drawn for training, without replacement.
      num_eval_windows: positions drawn for evaluation.
      seed: the seed of the draw.

    Returns:
      inputs [num_windows, before + 1 + after] uint8 below VOCAB_SIZE, labels [num_windows] int32, and the same two for
      the evaluation set.

    Raises:
      InputError: this Python carries too little source.
    """
    sources = list(read_sources())
    _check_sizes(sources, before + after, num_windows, num_eval_windows)
    settings = f"{sys.version} {before} {after} {num_windows} {num_eval_windows} {seed}"
    key = hashlib.sha256(b"\0".join([settings.encode(), *sources])).hexdigest()[:16]
    return load_or_make(
        f"stdlib-{key}", lambda: _draw_both(sources, before, after, num_windows, num_eval_windows, seed)
    )


def _draw_both(
    sources: list[bytes], before: int, after: int, num_windows: int, num_eval_windows: int, seed: int
) -> list[np.ndarray]:
    train, held_out = _split(sources)
    generator = np.random.Generator(np.random.Philox(seed))
    return [
        *_draw(train, before, after, num_windows, generator, "data.source.num_windows"),
        *_draw(held_out, before, after, num_eval_windows, generator, "data.evaluation_size"),
    ]


def _split(sources: Iterable[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Returns the files to train on, and those to evaluate on."""
    train: list[bytes] = []
    held_out: list[bytes] = []
    for source in sources:
        side = held_out if int.from_bytes(hashlib.sha256(source).digest()[:8]) % EVALUATION_SHARE == 0 else train
        side.append(source)
    return train, held_out


def _check_sizes(sources: Iterable[bytes], context: int, num_windows: int, num_eval_windows: int) -> None:
    """Refuses what the files cannot hold by their bytes, of which a character takes one or more, before any is read.

    Raises:
      InputError: names the most that they could hold.
    """
    for side, asked, field in zip(
        _split(sources),
        (num_windows, num_eval_windows),
        ("data.source.num_windows", "data.evaluation_size"),
        strict=True,
    ):
        most = sum(map(len, side)) - context
        if most < 1:
            raise InputError(
                f"data.source.characters_before and characters_after={context} in all are more than this Python's "
                f"library has characters, {most + context} at most; choose fewer"
            )
        if asked > most:
            raise InputError(
                f"{field}={asked} exceeds the {most} windows of this Python's library, at the very most; choose fewer"
            )


def read_sources() -> Iterator[bytes]:
    """Yields the standard library's distinct source files in the order of their paths.

    Raises:
      InputError: this Python comes without its source.
    """
    root = sysconfig.get_paths()["stdlib"]
    seen: set[bytes] = set()
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(set(subfolders) - SKIPPED_FOLDERS)
        for name in sorted(names):
            if name.endswith(".py"):
                content = (Path(folder) / name).read_bytes()
                if content not in seen:
                    seen.add(content)
                    yield content
    if not seen:
        raise InputError(
            f"data.source.kind='stdlib': no .py files under {root}; use another source, for instance digits"
        )


def label_characters(source: bytes) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the characters of a Python file as [n] code points and their classes as [n] uint8; None if not Python.

    >>> characters, classes = label_characters(b"x = 'a'  # b")
    >>> "".join(str(c) for c in classes)
    '000022200111'
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in old files are not our concern
            encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
            text = source.decode(encoding).replace("\r\n", "\n").replace("\f", " ")
            tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (SyntaxError, UnicodeDecodeError, tokenize.TokenError):
        return None
    starts = np.cumsum([0, *(len(line) for line in io.StringIO(text))])
    classes = np.zeros(len(text), np.uint8)
    opened: list[int] = []  # f-strings arrive in parts from Python 3.12 on
    for token in tokens:
        start = starts[token.start[0] - 1] + token.start[1]
        end = starts[min(token.end[0] - 1, len(starts) - 1)] + token.end[1]
        name = tokenize.tok_name[token.type]
        if name.endswith("STRING_START"):
            opened.append(start)
        elif name.endswith("STRING_END"):
            classes[opened.pop() : end] = STRING
        elif name == "STRING":
            classes[start:end] = STRING
        elif name == "COMMENT":
            classes[start:end] = COMMENT
    return np.frombuffer(text.encode("utf-32-le"), np.uint32), classes


def encode(characters: np.ndarray) -> np.ndarray:
    """Returns code points as tokens below VOCAB_SIZE, uint8 of the same shape."""
    lookup = np.full(129, OTHER, np.uint8)
    for index, character in enumerate(ALPHABET):
        lookup[ord(character)] = index
        lookup[ord(character.upper())] = index
    lookup[ord("0") : ord("9") + 1] = ALPHABET.index("0")
    return lookup[np.minimum(characters, 128)]


def _draw(
    sources: list[bytes], before: int, after: int, num_windows: int, generator: np.random.Generator, field: str
) -> tuple[np.ndarray, np.ndarray]:
    labelled = [found for found in map(label_characters, sources) if found is not None]
    tokens = encode(np.concatenate([characters for characters, _ in labelled]))
    classes = np.concatenate([classes for _, classes in labelled])
    positions = len(tokens) - before - after
    if num_windows > positions:
        raise InputError(
            f"{field}={num_windows} exceeds the {positions} windows of this Python's library; choose fewer"
        )
    centres = before + generator.choice(positions, num_windows, replace=False)
    windows = tokens[centres[:, None] + np.arange(-before, after + 1)]
    return windows, classes[centres].astype(np.int32)
