"""Mixtures of corpora: proportions of tokens in every prefix, one split whatever a part is mixed with, and nesting."""

import pickle
import re

import numpy as np
import pytest

from scaling.data.loading import check_data, load_source
from scaling.data.text.mixture import load_mixture
from scaling.data.text.source import load_text, prepare
from scaling.specs.base import InputError
from scaling.specs.data import DataSpec, MixtureDocuments, MixturePart, TextSource
from tests.scaling.data.text.prepared import write

LONGEST = 60  # tokens of a document, at most
SHARES = {"a": 0.6, "b": 0.3, "c": 0.1}


@pytest.fixture
def mixed(tmp_path, monkeypatch) -> TextSource:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    parts = []
    for name, weight in {"a": 6, "b": 3, "c": 1}.items():
        texts = [name * int(rng.integers(1, 50)) + f"{index:05}" for index in range(1500)]
        parts.append(MixturePart(name=name, weight=weight, documents=write(tmp_path / f"{name}.txt", texts)))
    return TextSource(documents=MixtureDocuments(parts=tuple(parts)), sequence_length=32)


def documents_of(rows) -> list[bytes]:
    """Returns the whole documents in sequences, each of which begins with the target that ends the one before."""
    tokens = np.concatenate([rows[:][:, :-1].ravel(), rows[:][-1, -1:]])
    ends = np.flatnonzero(tokens == 256)
    return [piece.astype(np.uint8).tobytes() for piece in (part[part != 256] for part in np.split(tokens, ends + 1))]


@pytest.mark.parametrize("seed", [1, 2])
def test_every_prefix_holds_the_proportions_but_for_about_a_document(mixed, seed):
    source = load_mixture(mixed, 20)
    taken, total = dict.fromkeys(SHARES, 0), 0
    for text in documents_of(source.pack(seed, source.size))[:-1]:
        taken[text[:1].decode()] += len(text) + 1
        total += len(text) + 1
        for name, share in SHARES.items():
            assert abs(taken[name] - share * total) <= LONGEST * 1.5
    assert total > 10_000


def test_subsets_nest_spans_tell_them_apart_and_pickles_read_alike(mixed):
    source = load_mixture(mixed, 20)
    small, large, other = source.pack(1, 30), source.pack(1, source.size), source.pack(2, 30)
    assert np.array_equal(small[:], large[:30])
    assert np.array_equal(large.spans(np.arange(30)), small.spans(slice(None)))
    assert not np.array_equal(small[:], other[:])
    assert np.array_equal(pickle.loads(pickle.dumps(small))[::-1], small[:][::-1])  # noqa: S301
    documents = documents_of(large)[:-1]
    assert len(set(documents)) == len(documents)


def test_held_out_documents_of_a_part_are_those_of_the_part_alone(mixed):
    source = load_mixture(mixed, 100)
    evaluated = documents_of(source.eval_inputs)[:-1]
    for part in mixed.documents.parts:
        folder, manifest = prepare(mixed.model_copy(update={"documents": part.documents}))
        tokens = np.fromfile(folder / "held_out.tokens", manifest.dtype)
        alone = {
            x.astype(np.uint8).tobytes()
            for x in (p[p != 256] for p in np.split(tokens, np.fromfile(folder / "held_out.ends", "<i8")))
        }
        mine = [text for text in evaluated if text.startswith(part.name.encode())]
        assert mine
        assert set(mine) <= alone
    assert not set(evaluated) & set(documents_of(source.pack(1, source.size)))
    num_tokens = {name: sum(len(t) + 1 for t in evaluated if t.startswith(name.encode())) for name in SHARES}
    for name, share in SHARES.items():
        assert abs(num_tokens[name] / sum(num_tokens.values()) - share) < 0.05


def test_a_mixture_of_one_part_has_the_sequences_of_the_part(mixed):
    part = mixed.documents.parts[1]
    one = load_mixture(mixed.model_copy(update={"documents": MixtureDocuments(parts=(part,))}), 20)
    alone = load_text(mixed.model_copy(update={"documents": part.documents}), 20)
    assert (one.size, one.bytes_per_token) == (alone.size, pytest.approx(alone.bytes_per_token))
    assert np.array_equal(one.pack(3, one.size)[:], alone.pack(3, alone.size)[:])
    assert np.array_equal(one.eval_inputs[:], alone.eval_inputs[:])


def test_all_seeds_have_the_largest_size_and_the_corpus_that_runs_out_is_named(mixed):
    data = DataSpec(source=mixed, size=10**6, evaluation_size=20)
    source = load_source(data)
    with pytest.raises(InputError, match=f"of which a runs out first; choose at most {source.size}$"):
        check_data(data, source)
    for seed in range(5):
        assert source.pack(seed, source.size)[-1].shape == (33,)
    all_of_a = source.facts["tokens_a"] / SHARES["a"]
    assert all_of_a - 3 * LONGEST < source.size * 32 <= all_of_a
    assert source.facts["mixture_b"] == 0.3


def test_two_parts_of_one_name_are_refused(mixed):
    part = mixed.documents.parts[0]
    with pytest.raises(Exception, match=re.escape("two are called 'a'; give each its own name")):
        MixtureDocuments(parts=(part, part))
