"""Preparation: whatever interrupts it, the next one goes on and ends with the same files; several do the work once."""

import contextlib
import json
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scaling.data.text import preparation
from scaling.data.text import source as text
from scaling.data.text.source import load_text, prepare
from scaling.specs.base import InputError
from scaling.specs.data import FileDocuments, TextSource

LINES = [f"line {index}: " + "the quick brown fox jumps over the lazy dog " * (index % 5) for index in range(3000)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "scaling" / "text"


def write(path: Path, documents: list[str]) -> FileDocuments:
    path.write_text("\n".join(documents) + "\n", encoding="utf-8")
    return FileDocuments(path=str(path), unit="line")


def content(folder: Path) -> dict[str, Any]:
    """Returns all that is in a folder, without the times in its manifest and the hash that covers them."""
    found: dict[str, Any] = {path.name: path.read_bytes() for path in folder.iterdir()}
    manifest = json.loads(found.pop("manifest.json"))
    del manifest["sha256"]
    for state in manifest["files"].values():
        del state["mtime_ns"]
    return found | {"manifest": manifest}


@pytest.fixture
def small_steps(monkeypatch) -> None:
    """Checkpoints after every few documents."""
    for name, value in (("CHECKPOINT_BYTES", 50_000), ("CHECKPOINT_DOCUMENTS", 300), ("BATCH_DOCUMENTS", 16)):
        monkeypatch.setattr(preparation, name, value)


class Fails:
    """A tokenizer that stops after so many batches."""

    def __init__(self, tokenizer: Any, batches: int) -> None:
        self.tokenizer, self.batches = tokenizer, batches
        self.vocab_size, self.sha256, self.num_texts = tokenizer.vocab_size, tokenizer.sha256, 0

    def encode_batch(self, texts: list[bytes]) -> list[np.ndarray]:
        """Returns tokens, or stops."""
        self.batches -= 1
        if self.batches < 0:
            raise KeyboardInterrupt
        self.num_texts += len(texts)
        encoded: list[np.ndarray] = self.tokenizer.encode_batch(texts)
        return encoded


@contextlib.contextmanager
def failing_after(batches: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Fails]]:
    opened: list[Fails] = []

    def open_failing(spec: Any) -> Fails:
        opened.append(Fails(original(spec), batches))
        return opened[-1]

    original = text.open_tokenizer
    with monkeypatch.context() as patch:
        patch.setattr(text, "open_tokenizer", open_failing)
        yield opened


def awkward(tmp_path: Path) -> TextSource:
    documents = write(tmp_path / "awkward.txt", [*LINES[:500], "", *LINES[300:900], " ", *LINES[900:], *LINES[:999]])
    return TextSource(documents=documents, skip_empty=True)


def test_an_interrupted_preparation_goes_on_and_ends_with_the_same_files(tmp_path, cache, small_steps, monkeypatch):
    spec = awkward(tmp_path)
    whole = content(prepare(spec).folder)
    shutil.rmtree(cache)
    encoded = 0
    for batches in (1, 5, 30, 3, 90):
        with failing_after(batches, monkeypatch) as opened, pytest.raises(KeyboardInterrupt):
            prepare(spec)
        encoded += opened[0].num_texts
    with failing_after(10**9, monkeypatch) as opened:
        assert content(prepare(spec).folder) == whole
    # What was kept is not tokenised again: less than a checkpoint is lost each time.
    assert opened[0].num_texts < len(LINES) - 800
    assert encoded + opened[0].num_texts < len(LINES) + 5 * 300
    assert sorted(path.suffix for path in cache.iterdir()) == ["", ".lock"]


KILLED = """
import sys, time
from scaling.data.text import preparation
from scaling.data.text import source as text
from scaling.specs.data import TextSource
preparation.CHECKPOINT_BYTES, preparation.CHECKPOINT_DOCUMENTS, preparation.BATCH_DOCUMENTS = 3000, 70, 8
original = text.open_tokenizer
def slowly(spec):
    tokenizer = original(spec)
    class Slow:
        vocab_size, sha256 = tokenizer.vocab_size, tokenizer.sha256
        def encode_batch(self, texts):
            time.sleep(0.002)
            return tokenizer.encode_batch(texts)
    return Slow()
text.open_tokenizer = slowly
text.prepare(TextSource.model_validate_json(sys.argv[1]))
"""


def test_a_killed_preparation_goes_on_and_ends_with_the_same_files(tmp_path, cache, python):
    spec = awkward(tmp_path)
    whole = content(prepare(spec).folder)
    shutil.rmtree(cache)
    consumed = []
    for delay_seconds in np.random.default_rng().uniform(0.02, 0.25, 2):
        child = subprocess.Popen([python, "-c", KILLED, spec.model_dump_json()])
        try:
            before = consumed[-1:]
            while consumed_so_far(cache) == before:
                assert child.poll() is None
                time.sleep(0.01)
            time.sleep(delay_seconds)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        consumed += consumed_so_far(cache)
    assert len(consumed) == 2, "killed while it was at work"
    assert content(prepare(spec).folder) == whole


def consumed_so_far(cache: Path) -> list[int]:
    return [json.loads(path.read_bytes())["consumed"] for path in cache.glob("*.partial/progress.json")]


def test_a_preparation_killed_at_its_very_end_is_given_its_name(tmp_path, cache, monkeypatch):
    spec = awkward(tmp_path)
    whole = content(prepare(spec).folder)
    shutil.rmtree(cache)
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "_give_name", raise_interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare(spec)
    with failing_after(0, monkeypatch):
        assert content(prepare(spec).folder) == whole


def raise_interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("damage", ["progress.json", "seen", "train.tokens", "documents"])
def test_what_is_left_of_other_documents_or_damaged_is_begun_again(tmp_path, small_steps, monkeypatch, damage):
    documents = write(tmp_path / "a.txt", LINES)
    spec = TextSource(documents=documents, prepared=str(tmp_path / "tokens"))
    with failing_after(60, monkeypatch), pytest.raises(KeyboardInterrupt):
        prepare(spec)
    if damage == "documents":
        write(tmp_path / "a.txt", [line.upper() for line in LINES])
    else:
        (tmp_path / "tokens.partial" / damage).write_bytes(b"")
    resumed = content(prepare(spec).folder)
    shutil.rmtree(tmp_path / "tokens")
    assert content(prepare(spec).folder) == resumed


def test_preparations_at_the_same_time_tokenise_once(tmp_path, monkeypatch):
    spec = awkward(tmp_path)
    with failing_after(10**9, monkeypatch) as opened, ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: prepare(spec).folder, range(8)))
    assert len(set(folders)) == 1
    assert len(opened) == 1


def test_a_second_load_reads_no_document(tmp_path, monkeypatch):
    spec = awkward(tmp_path)
    prepare(spec)
    monkeypatch.setattr(text, "read_documents", raise_interrupt)
    monkeypatch.setattr(text, "open_tokenizer", raise_interrupt)
    assert load_text(spec, 5).size > 100


def test_a_full_disk_is_one_line_and_the_next_run_goes_on(tmp_path, cache, small_steps):
    spec = awkward(tmp_path)
    whole = content(prepare(spec).folder)
    shutil.rmtree(cache)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        with pytest.raises(InputError) as caught:
            prepare(spec)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    message = str(caught.value)
    assert "\n" not in message
    assert "File too large" in message
    assert "MB are needed in all; free space, or set data.source.prepared or XDG_CACHE_HOME" in message
    assert consumed_so_far(cache)[0] > 100
    assert content(prepare(spec).folder) == whole
