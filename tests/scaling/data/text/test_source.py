"""Text: tokenised once, split by document, whole after any interruption, and refused in one line where it cannot be."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from scaling.data.source import Source
from scaling.data.text import source as text
from scaling.data.text.source import load_text, prepare
from scaling.specs.data import DataSpec, FileDocuments, HuggingFaceTokenizer, TextSource
from tests.scaling.data.text.prepared import LINES, prepared_spec, refusal, write

BOUNDARY = 256


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "scaling" / "text"


def documents_in(spec: TextSource, side: str) -> list[bytes]:
    """Returns the documents of a side, as their bytes, after checking their ends."""
    folder, manifest = prepare(spec)
    tokens = np.fromfile(folder / f"{side}.tokens", manifest.dtype)
    ends = np.fromfile(folder / f"{side}.ends", "<i8")
    assert np.array_equal(np.flatnonzero(tokens == BOUNDARY) + 1, ends)
    return [piece[:-1].astype(np.uint8).tobytes() for piece in np.split(tokens, ends[:-1])]


# --- the source -----------------------------------------------------------------------------------------------------


def test_every_distinct_document_is_on_one_side_and_none_is_lost(lines):
    spec = TextSource(documents=lines)
    train, held_out = documents_in(spec, "train"), documents_in(spec, "held_out")
    assert sorted(train + held_out) == sorted(line.encode() for line in LINES)
    assert 0.07 < len(held_out) / len(LINES) < 0.13
    assert train == [line.encode() for line in LINES if line.encode() in set(train)]  # in their order


def test_the_sequences_of_a_source_are_the_documents_and_count_right(lines):
    spec = TextSource(documents=lines, sequence_length=32)
    source = load_text(spec, 50)
    train, held_out = documents_in(spec, "train"), documents_in(spec, "held_out")
    stream = [token for document in train for token in (*document, BOUNDARY)]
    assert source.inputs.shape == ((len(stream) - 1) // 32, 33)
    assert source.inputs[3].tolist() == stream[96:129]
    assert source.eval_inputs.shape == (50, 33)
    assert source.example_tokens == 32
    assert (source.vocab_size, source.num_classes, source.objective) == (257, 257, "next_token")
    num_bytes = sum(map(len, held_out))
    assert source.bytes_per_token == num_bytes / (num_bytes + len(held_out))
    assert source.facts == {
        "documents": len(train),
        "tokens": len(stream),
        "bytes": sum(map(len, train)),
        "evaluation_documents": len(held_out),
        "duplicates_dropped": 0,
        "empty_skipped": 0,
        "tokenizer_sha256": "bytes",
    }
    assert source.name == "lines.txt"


def test_subsets_nest_and_their_seed_permutes_documents(lines):
    source = load_text(TextSource(documents=lines, sequence_length=32), 10)
    assert source.pack is not None
    small, large, other = source.pack(1, 20), source.pack(1, 400), source.pack(2, 20)
    assert len(small) == 20
    assert np.array_equal(small[:], large[:20])
    assert not np.array_equal(small[:], other[:])
    assert len(source.pack(1, source.size)) == source.size


def test_evaluation_sequences_are_the_same_for_every_evaluation_size(lines):
    spec = TextSource(documents=lines, sequence_length=32)
    small, large, all_of_it = (load_text(spec, size) for size in (10, 40, 10**9))
    assert np.array_equal(small.eval_inputs[:], large.eval_inputs[:10])
    assert all_of_it.evaluation_size < 10**9
    assert small.sha256 == large.sha256
    assert small.eval_sha256 != large.eval_sha256


@pytest.mark.parametrize(
    ("objective", "length", "vocab_size"), [("next_token", 33, 257), ("masked", 32, 258), ("permuted", 32, 257)]
)
def test_objectives_share_the_tokens_and_differ_in_length_and_vocabulary(lines, cache, objective, length, vocab_size):
    source = load_text(TextSource(documents=lines, sequence_length=32, objective=objective), 10)
    assert source.inputs.shape[1] == source.eval_inputs.shape[1] == length
    assert (source.vocab_size, source.num_classes) == (vocab_size, vocab_size)
    assert source.example_tokens == 32
    load_text(TextSource(documents=lines, sequence_length=64), 10)
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 1


def test_hashes_tell_corpora_and_lengths_apart(lines, tmp_path):
    others = write(tmp_path / "others.txt", LINES[1:])
    specs = [
        TextSource(documents=lines),
        TextSource(documents=others),
        TextSource(documents=lines, sequence_length=64),
    ]
    assert len({load_text(spec, 5).sha256 for spec in specs}) == 3


def test_duplicates_are_dropped_and_counted(tmp_path):
    spec = TextSource(documents=write(tmp_path / "a.txt", LINES + LINES[:100] + LINES[:7]))
    assert sorted(documents_in(spec, "train") + documents_in(spec, "held_out")) == sorted(map(str.encode, LINES))
    assert load_text(spec, 5).facts["duplicates_dropped"] == 107


def test_evaluation_documents_are_held_out_whole_and_left_out_of_training(lines, tmp_path):
    evaluation = write(tmp_path / "evaluation.txt", [*LINES[5:25], "only here", LINES[5]])
    spec = TextSource(documents=lines, evaluation_documents=evaluation)
    assert documents_in(spec, "held_out") == [line.encode() for line in [*LINES[5:25], "only here"]]
    assert documents_in(spec, "train") == [line.encode() for line in LINES[:5] + LINES[25:]]


def test_empty_documents_are_refused_or_counted(tmp_path):
    documents = write(tmp_path / "a.txt", [*LINES[:50], " ", "", *LINES[50:]])
    message = refusal(TextSource(documents=documents))
    assert "a.txt line 51 is empty" in message
    assert "data.source.skip_empty=true" in message
    assert load_text(TextSource(documents=documents, skip_empty=True), 5).facts["empty_skipped"] == 2


def test_a_tokenizer_file_gives_fewer_tokens_of_the_right_width(lines, tmp_path):
    path = train_tokenizer(tmp_path / "t.json", 400)
    source = load_text(TextSource(documents=lines, tokenizer=HuggingFaceTokenizer(path=str(path))), 5)
    assert (source.vocab_size, source.inputs.dtype) == (source.num_classes, np.uint16)
    assert source.bytes_per_token is not None
    assert source.bytes_per_token > 1.5
    small = tokenizers.Tokenizer(tokenizers.models.WordLevel({"the": 0, "dog": 1, "?": 2}, "?"))
    small.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    small.save(str(tmp_path / "small.json"))
    source = load_text(
        TextSource(documents=lines, tokenizer=HuggingFaceTokenizer(path=str(tmp_path / "small.json"))), 5
    )
    assert (source.vocab_size, source.inputs.dtype) == (4, np.uint8)


def train_tokenizer(path: Path, vocab_size: int) -> Path:
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(LINES, trainer)
    tokenizer.save(str(path))
    return path


def test_the_standard_library_is_a_corpus_by_default():
    source = load_text(TextSource(), 100)
    assert source.name == "stdlib text"
    assert source.size > 10_000
    assert source.evaluation_size == 100


def test_real_text_is_split_by_paragraph_and_by_line(shared_data):
    plays = FileDocuments(path=str(shared_data / "tinyshakespeare" / "input.txt"), unit="paragraph")
    source = load_text(TextSource(documents=plays, sequence_length=64), 200)
    assert source.size > 10_000
    assert source.eval_inputs[:].max() == BOUNDARY
    names = FileDocuments(path=str(shared_data / "names" / "names.txt"), unit="line")
    source = load_text(TextSource(documents=names, sequence_length=16), 200)
    assert source.facts["duplicates_dropped"] > 1000  # the file repeats names


def test_a_prepared_folder_serves_where_the_documents_are_not(lines, tmp_path):
    tokenizer = HuggingFaceTokenizer(path=str(train_tokenizer(tmp_path / "t.json", 300)))
    here = TextSource(documents=lines, tokenizer=tokenizer, prepared=str(tmp_path / "tokens"))
    source = load_text(here, 5)
    shutil.copytree(tmp_path / "tokens", tmp_path / "copied")
    elsewhere = TextSource(
        documents=lines.model_copy(update={"path": "/nowhere.txt"}),
        tokenizer=tokenizer.model_copy(update={"path": "/no.json"}),
        prepared=str(tmp_path / "copied"),
    )
    there = load_text(elsewhere, 5)
    assert same(source, there)
    shutil.rmtree(tmp_path / "tokens")
    Path(lines.path).unlink()
    assert "does not exist" in refusal(here)


def same(one: Source, other: Source) -> bool:
    return (one.sha256, one.eval_sha256, one.facts) == (
        other.sha256,
        other.eval_sha256,
        other.facts,
    ) and np.array_equal(one.inputs[:], other.inputs[:])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"held_out": 0.2}, "data.source.held_out=0.2 but"),
        ({"skip_empty": True}, "data.source.skip_empty=true but"),
        ({"documents": "paragraph"}, "data.source.documents="),
        ({"tokenizer": "other"}, "data.source.tokenizer="),
        ({}, "lines.txt has changed since"),
    ],
)
def test_a_folder_of_other_tokens_is_refused(lines, tmp_path, change, problem):
    spec = prepared_spec(lines, tmp_path)
    if change.get("documents"):
        change = {"documents": lines.model_copy(update={"unit": "paragraph"})}
    if change.get("tokenizer"):
        change = {"tokenizer": HuggingFaceTokenizer(path=str(train_tokenizer(tmp_path / "t.json", 300)))}
    if not change:
        os.utime(lines.path, ns=(0, 0))
    message = refusal(spec.model_copy(update=change))
    assert problem in message
    assert "set data.source.prepared to another folder" in message


def test_a_folder_of_something_else_is_left_alone(lines, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    assert "is no folder of tokens" in refusal(TextSource(documents=lines, prepared=str(tmp_path / "mine")))
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "x"
    inside = TextSource(documents=FileDocuments(path=str(tmp_path), unit="line"), prepared=str(tmp_path / "new"))
    assert "is inside data.source.documents.path" in refusal(inside)


def test_documents_that_change_while_they_are_read_are_refused(lines, monkeypatch):
    original = text.read_documents

    def changing(*how: Any) -> Iterator[Any]:
        yield from original(*how)
        os.utime(lines.path, ns=(0, 0))

    monkeypatch.setattr(text, "read_documents", changing)
    assert "changed while they were read" in refusal(TextSource(documents=lines))


def test_what_cannot_be_split_says_how_it_could(tmp_path):
    (tmp_path / "one.txt").write_text("a single document\n\n" * 100)
    one = FileDocuments(path=str(tmp_path / "one.txt"))
    message = refusal(TextSource(documents=one))
    assert "one.txt holds 1 document, which cannot be split; set data.source.documents.unit='paragraph'" in message
    assert "evaluation_documents" in message
    few = write(tmp_path / "few.txt", LINES[:3])
    assert "held_out=1e-09 leaves none of the 3 documents" in refusal(TextSource(documents=few, held_out=1e-9))
    assert "to train on" in refusal(TextSource(documents=few, held_out=1 - 1e-9))
    assert "data.source.documents: none" in refusal(TextSource(documents=few, evaluation_documents=few))
    empty = write(tmp_path / "empty.txt", ["", ""])
    assert "no document with text" in refusal(TextSource(documents=empty, skip_empty=True))


def test_fewer_tokens_than_a_sequence_are_refused(lines, tmp_path):
    message = refusal(TextSource(documents=write(tmp_path / "few.txt", LINES[:40]), sequence_length=100_000))
    assert message.startswith("data.source.sequence_length=100000 needs 100001 tokens, but the train documents of few")
    evaluation = write(tmp_path / "short.txt", ["short"])
    message = refusal(TextSource(documents=lines, evaluation_documents=evaluation, sequence_length=64))
    assert "the held_out documents" in message


def test_a_place_that_cannot_be_written_is_one_line(lines, tmp_path):
    (tmp_path / "file").write_text("")
    message = refusal(TextSource(documents=lines, prepared=str(tmp_path / "file" / "tokens")))
    assert "set data.source.prepared or XDG_CACHE_HOME to a folder that can be written" in message


def test_a_missing_document_is_named_before_anything_is_written(tmp_path, cache):
    assert "data.source.documents.path=" in refusal(TextSource(documents=FileDocuments(path=str(tmp_path / "none"))))
    assert not cache.exists()


def test_a_cells_data_takes_text_as_a_source(lines):
    assert DataSpec(source=TextSource(documents=lines), size=10).source.kind == "text"
