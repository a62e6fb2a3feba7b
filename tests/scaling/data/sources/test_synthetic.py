"""Synthetic sources: the same bits everywhere, and the losses that they promise are those that are found."""

import hashlib
import math

import numpy as np
import pytest

from scaling.data.permutation import shuffled
from scaling.data.sources.synthetic import (
    POOL,
    _stream,
    draw_normals,
    entropy,
    expected_error,
    expected_exponent,
    load_markov,
    load_teacher,
    next_tokens,
)
from scaling.specs.base import InputError
from scaling.specs.data import MarkovSource, TeacherSource

TEACHER = TeacherSource(num_features=30, noise=0.5, num_examples=4_000, seed=3)
MARKOV = MarkovSource(vocab_size=6, zipf_exponent=1.2, order=2, sequence_length=5, num_sequences=4_000, seed=3)


def arrays(source) -> list[np.ndarray]:
    found = [source.inputs, source.labels, source.eval_inputs, source.eval_labels]
    return [array for array in found if array is not None]


def digest(source) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays(source))).hexdigest()[:12]


# --- both -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("load", "spec"), [(load_teacher, TEACHER), (load_markov, MARKOV)], ids=["teacher", "markov"])
def test_the_same_source_twice_is_bitwise_equal_and_another_seed_is_not(load, spec):
    one, same, other = load(spec, 100), load(spec, 100), load(spec.model_copy(update={"seed": 4}), 100)
    assert digest(one) == digest(same) != digest(other)


def test_the_bits_are_those_of_every_machine():
    # Written down on x86-64 with NumPy 2.4; a change means other data under the fingerprints of old cells.
    assert digest(load_teacher(TEACHER, 100)) == "2b08e50e73e5"
    assert digest(load_markov(MARKOV, 100)) == "0343209adf55"


@pytest.mark.parametrize(("load", "spec"), [(load_teacher, TEACHER), (load_markov, MARKOV)], ids=["teacher", "markov"])
def test_a_larger_pool_begins_with_the_smaller_one_and_has_the_same_evaluation_set(load, spec):
    size = "num_examples" if spec is TEACHER else "num_sequences"
    small, large = load(spec.model_copy(update={size: 1_001}), 50), load(spec, 100)
    np.testing.assert_array_equal(small.inputs, large.inputs[:1_001])
    np.testing.assert_array_equal(small.eval_inputs, large.eval_inputs[:50])
    if small.labels is not None:
        np.testing.assert_array_equal(small.labels, large.labels[:1_001])
        np.testing.assert_array_equal(small.eval_labels, large.eval_labels[:50])


def test_chunks_do_not_change_the_data(monkeypatch):
    odd = TEACHER.model_copy(update={"num_features": 29})  # normal numbers come in pairs

    def digests():
        return digest(load_teacher(odd, 101)), digest(load_markov(MARKOV, 101))

    whole = digests()
    monkeypatch.setattr("scaling.data.sources.synthetic.CHUNK", 1_000)
    assert digests() == whole


def test_pool_and_evaluation_set_share_no_example():
    teacher = load_teacher(TEACHER, 1_000)
    language = load_markov(MARKOV.model_copy(update={"sequence_length": 60}), 1_000)
    for source in (teacher, language):
        pool, held_out = ({row.tobytes() for row in rows} for rows in (source.inputs, source.eval_inputs))
        assert (len(pool), len(held_out)) == (4_000, 1_000)
        assert not pool & held_out


def test_data_are_independent_of_the_order_of_subsets():
    # Orders sort the raw output of the same generator; if data were drawn from it, small m would have small inputs.
    draws, order = draw_normals(_stream(0, POOL), 20_000), shuffled(20_000, 0)
    assert abs(draws[order[:5_000]].mean()) < 4 / math.sqrt(5_000)
    assert abs(draws[0::2][np.argsort(order)[0::2] < 5_000].mean()) < 4 / math.sqrt(2_500)


def test_normal_numbers_have_the_moments_and_tails_of_normal_ones():
    draws = draw_normals(_stream(7, POOL), 400_001)
    assert len(draws) == 400_001
    np.testing.assert_allclose([draws.mean(), draws.var(), (draws**4).mean()], [0.0, 1.0, 3.0], atol=0.03)
    for bound, share in ((0.0, 0.5), (1.0, 0.158655), (3.0, 0.00135)):
        assert (draws > bound).mean() == pytest.approx(share, abs=4 * math.sqrt(share / len(draws)))
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 4 / math.sqrt(len(draws))


# --- linear teacher -------------------------------------------------------------------------------------------------


def test_the_teacher_has_the_spectra_it_was_asked_for():
    spec = TeacherSource(num_features=8, spectrum_exponent=1.2, target_exponent=1.7, num_examples=100_000)
    source = load_teacher(spec, 10)
    assert (source.inputs.dtype, source.labels.dtype, source.objective, source.num_classes) == (
        np.float32,
        np.float32,
        "regress",
        1,
    )
    numbers = np.arange(1, 9)
    np.testing.assert_allclose(source.inputs.var(axis=0), numbers**-1.2, rtol=0.03)
    weights, residual, *_ = np.linalg.lstsq(source.inputs.astype(np.float64), source.labels)
    powers = weights**2 * numbers**-1.2
    np.testing.assert_allclose(powers, numbers**-1.7 / (numbers**-1.7).sum(), rtol=1e-5)
    assert powers.sum() == pytest.approx(1.0, abs=1e-6)
    assert residual[0] / 100_000 < 1e-12  # no noise
    assert len(set(np.sign(weights))) == 2


def test_noise_is_added_to_labels_alone_and_is_the_floor():
    quiet, noisy = (load_teacher(TEACHER.model_copy(update={"noise": noise}), 4_000) for noise in (0.0, 0.5))
    np.testing.assert_array_equal(quiet.inputs, noisy.inputs)
    for clean, labels in ((quiet.labels, noisy.labels), (quiet.eval_labels, noisy.eval_labels)):
        noise = labels - clean
        assert noise.std() == pytest.approx(0.5, rel=0.05)
        assert abs(np.corrcoef(noise, clean)[0, 1]) < 0.07
    assert noisy.facts == {"floor": 0.25}


def fit_ridge(inputs: np.ndarray, labels: np.ndarray, regularization: float) -> np.ndarray:
    """Returns w, straight from its definition: the smallest w of the smallest ||y - X w||² + λ ||w||²."""
    inputs = inputs.astype(np.float64)
    kernel = inputs @ inputs.T + regularization * np.eye(len(inputs))
    if regularization:
        return inputs.T @ np.linalg.solve(kernel, labels)
    return np.linalg.pinv(inputs) @ labels


@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("regularization", [0.0, 2.0])
def test_the_expected_error_is_that_of_simulated_ridge_regression(noise, regularization):
    spec = TeacherSource(num_features=300, spectrum_exponent=1.2, noise=noise, num_examples=9_000)
    source = load_teacher(spec, 3_000)
    sizes = [60, 150, 900]
    found = []
    for size in sizes:
        errors = []
        for start in range(0, 12 * size if size < 500 else 4 * size, size):
            rows = slice(start, start + size)
            weights = fit_ridge(source.inputs[rows], source.labels[rows], regularization)
            errors.append(((source.eval_inputs @ weights - source.eval_labels) ** 2).mean())
        found.append(np.mean(errors))
    # Seeds differ by some 10 % at m = 60, and the evaluation set is one draw of 3,000.
    np.testing.assert_allclose(found, expected_error(spec, sizes, regularization), rtol=0.08, atol=1e-9)


def test_the_expected_error_at_the_ends():
    spec = TeacherSource(num_features=20, noise=0.3)
    unfitted = expected_error(spec, [10], regularization=1e12)
    np.testing.assert_allclose(unfitted, [1.0 + 0.09], rtol=1e-6)
    assert expected_error(spec, [20])[0] == math.inf
    quiet = spec.model_copy(update={"noise": 0.0})
    np.testing.assert_array_equal(expected_error(quiet, [20, 50]), [0.0, 0.0])
    alike = TeacherSource(num_features=20, spectrum_exponent=1e-9)
    np.testing.assert_allclose(expected_error(alike, [5]), [1 - 5 / 20], rtol=1e-6)  # a random projection
    assert (np.diff(expected_error(quiet, range(1, 20))) < 0).all()


def test_a_vanishing_regularization_is_none():
    sizes = [3, 10, 29, 40, 1_000]
    limit = expected_error(TEACHER, sizes, regularization=1e-12)
    np.testing.assert_allclose(limit, expected_error(TEACHER, sizes), rtol=1e-6)


@pytest.mark.parametrize(("spectrum", "target"), [(1.5, 2.0), (1.2, 2.0), (2.0, 3.0), (1.5, 6.0)])
def test_the_error_falls_with_the_exponent_of_theory(spectrum, target):
    spec = TeacherSource(num_features=2_000, spectrum_exponent=spectrum, target_exponent=target)
    small, large = expected_error(spec, [20, 300])
    assert math.log(small / large) / math.log(300 / 20) == pytest.approx(expected_exponent(spec), rel=0.1)


def test_the_exponent_is_the_smaller_of_two():
    assert expected_exponent(TeacherSource(spectrum_exponent=1.5, target_exponent=1.4)) == pytest.approx(0.4)
    assert expected_exponent(TeacherSource(spectrum_exponent=1.5, target_exponent=9.0)) == 3.0


def test_what_theory_cannot_say_is_one_line():
    with pytest.raises(InputError, match=r"^data\.source\.spectrum_exponent=1\.0 gives .*; choose one above 1"):
        expected_exponent(TeacherSource(spectrum_exponent=1.0))
    with pytest.raises(InputError, match=r"^sizes=0 is too small; choose 1 or more$"):
        expected_error(TEACHER, [10, 0])
    with pytest.raises(InputError, match=r"^regularization=-1\.0 is too small; choose 0 or more$"):
        expected_error(TEACHER, [10], regularization=-1.0)


# --- Markov language ------------------------------------------------------------------------------------------------


def likelihoods(spec: MarkovSource, sequences: np.ndarray) -> np.ndarray:
    """Returns the probability of each predicted token, [n, T], by the definition of the language."""
    weights = 1.0 / np.arange(1, spec.vocab_size + 1) ** spec.zipf_exponent
    probabilities = np.full((len(sequences), spec.sequence_length), 1.0 / spec.vocab_size)
    for place in range(spec.order, spec.sequence_length + 1):
        for rank, weight in enumerate(weights / weights.sum()):
            context = sequences[:, place - spec.order : place]
            matches = next_tokens(spec, context, np.full(len(sequences), rank)) == sequences[:, place]
            probabilities[matches, place - 1] = weight
    return probabilities


@pytest.mark.parametrize("order", [1, 2, 4, 9])
@pytest.mark.parametrize("zipf_exponent", [0.0, 1.2])
def test_the_entropy_is_the_loss_of_the_language_itself(order, zipf_exponent):
    spec = MARKOV.model_copy(update={"order": order, "zipf_exponent": zipf_exponent})
    source = load_markov(spec, 10)
    losses = -np.log(likelihoods(spec, source.inputs))
    error = losses.mean(axis=1).std() / math.sqrt(len(losses))
    assert losses.mean() == pytest.approx(entropy(spec), abs=4 * error + 1e-9)
    assert source.facts == {"entropy_nats": entropy(spec)}


def test_bigrams_are_as_frequent_as_the_language_says():
    spec = MarkovSource(vocab_size=5, zipf_exponent=1.0, sequence_length=50, num_sequences=4_000)
    tokens = load_markov(spec, 10).inputs
    counts = np.zeros((5, 5))
    np.add.at(counts, (tokens[:, :-1], tokens[:, 1:]), 1)
    weights = 1.0 / np.arange(1, 6)
    for token in range(5):
        images = next_tokens(spec, np.full((5, 1), token, np.uint8), np.arange(5))
        assert sorted(images) == list(range(5))  # a permutation
        share = counts[token, images] / counts[token].sum()
        np.testing.assert_allclose(share, weights / weights.sum(), atol=4 * 0.5 / math.sqrt(counts[token].sum()))


@pytest.mark.parametrize("vocab_size", [2, 5, 64, 300])
def test_after_enough_contexts_every_token_is_the_likeliest_equally_often(vocab_size):
    spec = MarkovSource(vocab_size=vocab_size, order=20, seed=1)
    contexts = np.random.default_rng(0).integers(0, vocab_size, (400 * vocab_size, 20))
    for rank in (0, vocab_size - 1):
        counts = np.bincount(next_tokens(spec, contexts, np.full(len(contexts), rank)), minlength=vocab_size)
        expected = len(contexts) / vocab_size
        chi_squared = ((counts - expected) ** 2 / expected).sum()
        assert abs(chi_squared - (vocab_size - 1)) < 5 * math.sqrt(2 * (vocab_size - 1)) + 5


def test_only_the_last_tokens_decide_the_next():
    spec = MARKOV.model_copy(update={"num_sequences": 20_000})
    tokens = load_markov(spec, 10).inputs
    context = (tokens[:, 2] == 1) & (tokens[:, 3] == 4)
    favourite = int(next_tokens(spec, np.array([[1, 4]]), np.array([0]))[0])
    shares = [(tokens[context & (tokens[:, 0] == first), 4] == favourite).mean() for first in range(6)]
    best = 1 / (1.0 / np.arange(1, 7) ** 1.2).sum()
    np.testing.assert_allclose(shares, np.full(6, best), atol=0.2)
    assert len({int(next_tokens(spec, np.array([[c, 4]]), np.array([0]))[0]) for c in range(6)}) > 1


def test_sequences_hold_one_token_more_than_a_network_sees():
    source = load_markov(MARKOV, 10)
    assert (source.inputs.shape, source.inputs.dtype) == ((4_000, 6), np.uint8)
    assert (source.labels, source.eval_labels, source.objective) == (None, None, "next_token")
    assert (source.vocab_size, source.num_classes, source.example_tokens) == (6, 6, 5)
    assert set(np.unique(source.inputs)) == set(range(6))
    np.testing.assert_allclose(np.bincount(source.inputs[:, 0]) / 4_000, np.full(6, 1 / 6), atol=0.03)
    wide = load_markov(MARKOV.model_copy(update={"vocab_size": 300}), 10)
    assert wide.inputs.dtype == np.uint16
    assert wide.inputs.max() > 255
