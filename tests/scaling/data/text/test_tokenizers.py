"""Tokenizers: every kind gives the tokens that its own package gives, below V, and reads them back."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import tokenizers

from scaling.data.text.tokenizers import hash_tokenizer, open_tokenizer
from scaling.specs.base import InputError
from scaling.specs.data import BytesTokenizer, HuggingFaceTokenizer, SentencePieceTokenizer, TokenizerSpec

TEXT = [
    "the cat sat on the mat",
    "a dog and a cat and a bird",
    "it was the best of times",
    "it was the worst of times",
] * 20
TEXTS = [b"the dog sat", b"x", "the best é cat 😀".encode()]


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tokenizers")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT),
        model_prefix=str(folder / "sp"),
        vocab_size=320,
        byte_fallback=True,
        minloglevel=2,
        hard_vocab_limit=False,
    )
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, show_progress=False, initial_alphabet=alphabet, special_tokens=["<s>", "</s>"]
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return {"sentencepiece": folder / "sp.model", "tokenizers": folder / "tokenizer.json"}


def spec_of(kind: str, paths: dict[str, Path]) -> TokenizerSpec:
    if kind == "bytes":
        return BytesTokenizer()
    return (SentencePieceTokenizer if kind == "sentencepiece" else HuggingFaceTokenizer)(path=str(paths[kind]))


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece", "tokenizers"])
def test_tokens_are_below_v_and_read_back_as_the_text(kind, paths):
    tokenizer = open_tokenizer(spec_of(kind, paths))
    encoded = tokenizer.encode_batch(TEXTS)
    assert [tokenizer.decode(tokens) for tokens in encoded] == TEXTS
    assert all(tokens.dtype.kind in "iu" and tokens.max() < tokenizer.vocab_size for tokens in encoded)
    alone = [tokenizer.encode_batch([text])[0] for text in TEXTS]
    assert all(np.array_equal(one, other) for one, other in zip(alone, encoded, strict=True))


def test_each_kind_agrees_with_its_own_package(paths):
    processor = sentencepiece.SentencePieceProcessor(model_file=str(paths["sentencepiece"]))
    ours = open_tokenizer(spec_of("sentencepiece", paths))
    assert ours.vocab_size == processor.get_piece_size()
    assert ours.encode_batch(TEXTS)[0].tolist() == processor.encode("the dog sat")
    reference = tokenizers.Tokenizer.from_file(str(paths["tokenizers"]))
    ours = open_tokenizer(spec_of("tokenizers", paths))
    assert ours.vocab_size == reference.get_vocab_size(with_added_tokens=True)
    assert ours.encode_batch(TEXTS)[0].tolist() == reference.encode("the dog sat", add_special_tokens=False).ids
    assert open_tokenizer(BytesTokenizer()).encode_batch([b"az"])[0].tolist() == [97, 122]


def test_no_marks_padding_or_truncation_that_a_file_asks_for_get_into_the_tokens(paths, tmp_path):
    plain = open_tokenizer(spec_of("tokenizers", paths)).encode_batch(TEXTS)
    tokenizer = tokenizers.Tokenizer.from_file(str(paths["tokenizers"]))
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(tmp_path / "padded.json"))
    padded = open_tokenizer(HuggingFaceTokenizer(path=str(tmp_path / "padded.json"))).encode_batch(TEXTS)
    assert [tokens.tolist() for tokens in padded] == [tokens.tolist() for tokens in plain]
    assert not any(np.isin([0, 1], tokens).any() for tokens in plain)


def test_v_covers_ids_with_gaps(paths, tmp_path):
    document = json.loads(paths["tokenizers"].read_text())
    document["added_tokens"][1]["id"] = 999
    (tmp_path / "gaps.json").write_text(json.dumps(document))
    tokenizer = open_tokenizer(HuggingFaceTokenizer(path=str(tmp_path / "gaps.json")))
    assert tokenizer.vocab_size > max(tokens.max() for tokens in tokenizer.encode_batch([*TEXTS, b"</s>"]))


@pytest.mark.parametrize("kind", ["sentencepiece", "tokenizers"])
def test_the_hash_is_of_the_file(kind, paths):
    sha256 = hashlib.sha256(paths[kind].read_bytes()).hexdigest()
    assert hash_tokenizer(spec_of(kind, paths)) == open_tokenizer(spec_of(kind, paths)).sha256 == sha256


@pytest.mark.parametrize("kind", ["sentencepiece", "tokenizers"])
@pytest.mark.parametrize("content", [None, b"junk", b"{}", "cut"])
def test_a_missing_or_damaged_file_is_one_line(kind, content, paths, tmp_path):
    if content is not None:
        (tmp_path / "x").write_bytes(paths[kind].read_bytes()[:700] if content == "cut" else content)
    with pytest.raises(InputError, match=r"data\.source\.tokenizer\.path=.*; name the .*file") as caught:
        open_tokenizer(spec_of(kind, {kind: tmp_path / "x"}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["sentencepiece", "tokenizers"])
def test_a_missing_package_names_the_extra(kind, paths, monkeypatch):
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(InputError, match=r"scaling\[text\]"):
        open_tokenizer(spec_of(kind, paths))
    assert len(hash_tokenizer(spec_of(kind, paths))) == 64
