"""Synthetic sources whose best loss, or whole learning curve, is known: a linear teacher and a Markov language.

Dims: n examples, F features, T tokens that a network sees, V vocabulary, m training examples.

All randomness is raw output of the Philox counter generator (Salmon et al. 2011), which is fixed by its definition,
while the streams of NumPy's `Generator` may change between releases. `log`, `cos` and powers, whose last bit depends on
the processor, are rounded to grids so coarse that it is lost, so that every machine gets the same bits.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import scipy.optimize

from scaling.data.permutation import mix, permute
from scaling.data.source import Source
from scaling.specs.base import InputError
from scaling.specs.data import MarkovSource, TeacherSource

# Independent streams of one seed. None is 0, which orders subsets (`permutation.shuffled`).
TEACHER, POOL, POOL_NOISE, EVALUATION, EVALUATION_NOISE = 1, 2, 3, 4, 5

# Normal numbers are multiples of 2^-16, so that their products with weights, multiples of 2^-32, and all sums of these
# below 2^5 are exact in double precision: labels, of variance 1, do not depend on the order of a sum.
NORMAL_BITS, WEIGHT_BITS = 16, 32

# Values drawn at a time: bounds memory, and is even, as normal numbers come in pairs.
CHUNK = 1 << 22

# --- randomness -----------------------------------------------------------------------------------------------------


def draw_uniforms(bits: np.random.Philox, size: int) -> np.ndarray:
    """Returns the stream's next numbers in [0, 1), [size] float64: multiples of 2^-53."""
    return (bits.random_raw(size) >> np.uint64(11)) * 2.0**-53


def draw_normals(bits: np.random.Philox, size: int) -> np.ndarray:
    """Returns the stream's next standard normal numbers, [size] float64 (Box & Muller 1958); takes an even number.

    >>> draw_normals(_stream(seed=0, stream=POOL), 2).round(3).tolist()
    [-1.705, 0.679]
    """
    uniforms = draw_uniforms(bits, size + size % 2)
    radius = np.sqrt(-2.0 * np.log1p(-uniforms[0::2]))
    angle = 2.0 * np.pi * uniforms[1::2]
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return _round_to(NORMAL_BITS, pairs.ravel()[:size])


def _stream(seed: int, stream: int) -> np.random.Philox:
    return np.random.Philox(key=seed + (stream << 64))


def _round_to(bits: int, values: np.ndarray) -> np.ndarray:
    return np.round(values * 2.0**bits) * 2.0**-bits


def _chunks(num_rows: int, row_size: int) -> Iterator[slice]:
    """Yields slices over rows that hold about `CHUNK` values each, an even number of rows in all but the last."""
    step = max(2, CHUNK // row_size // 2 * 2)
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))


# --- linear teacher -------------------------------------------------------------------------------------------------


def load_teacher(spec: TeacherSource, evaluation_size: int) -> Source:
    """Returns regression on a linear teacher: x_k = √λ_k z_k and y = Σ_k w_k x_k + noise · ε, with normal z and ε.

    λ_k = k^-spectrum_exponent is the variance of feature k. Its weight has a random sign and the power
    w_k² λ_k ∝ k^-target_exponent, which sums to 1 over the features. A learner sees the features as they are:
    standardised ones would have no spectrum.
    """
    deviations = np.sqrt(_variances(spec)).astype(np.float32)
    signs = np.where(draw_uniforms(_stream(spec.seed, TEACHER), spec.num_features) < 0.5, -1.0, 1.0)
    weights = _round_to(WEIGHT_BITS, signs * np.sqrt(_target_powers(spec)))  # of z, not of x

    def draw(size: int, stream: int, noise_stream: int) -> tuple[np.ndarray, np.ndarray]:
        bits = _stream(spec.seed, stream)
        inputs = np.empty((size, spec.num_features), np.float32)
        labels = spec.noise * draw_normals(_stream(spec.seed, noise_stream), size)
        for rows in _chunks(size, spec.num_features):
            shape = inputs[rows].shape
            normals = draw_normals(bits, math.prod(shape)).reshape(shape)
            inputs[rows] = normals.astype(np.float32) * deviations
            labels[rows] += normals @ weights
        return inputs, labels.astype(np.float32)

    inputs, labels = draw(spec.num_examples, POOL, POOL_NOISE)
    eval_inputs, eval_labels = draw(evaluation_size, EVALUATION, EVALUATION_NOISE)
    return Source(
        name="teacher",
        inputs=inputs,
        labels=labels,
        eval_inputs=eval_inputs,
        eval_labels=eval_labels,
        num_classes=1,
        objective="regress",
        facts={"floor": spec.noise**2},
    )


def _variances(spec: TeacherSource) -> np.ndarray:
    """Returns λ [F]."""
    return np.arange(1, spec.num_features + 1, dtype=np.float64) ** -spec.spectrum_exponent


def _target_powers(spec: TeacherSource) -> np.ndarray:
    """Returns each feature's share of the noiseless label's variance, [F], in sum 1."""
    powers = np.arange(1, spec.num_features + 1, dtype=np.float64) ** -spec.target_exponent
    return powers / math.fsum(powers)


def expected_error(spec: TeacherSource, sizes: Sequence[int], regularization: float = 0.0) -> np.ndarray:
    """Returns the expected squared error of ridge regression on fresh, noisy labels, at each m, like `sizes`.

    With κ such that m = Σ_k λ_k / (λ_k + κ) + regularization / κ, and γ = Σ_k λ_k² / (λ_k + κ)² / m,

        E = (Σ_k w_k² λ_k κ² / (λ_k + κ)² + noise²) / (1 - γ)

    (Bordelon, Canatar & Pehlevan 2020, arXiv 2002.02561; Simon et al. 2021, arXiv 2110.03922; Hastie et al. 2022, arXiv
    1903.08560). Regularization is λ of ||y - X w||² + λ ||w||², and 0 is least squares of minimum norm, with κ = 0 from
    m = F on. The formula is exact for large m and F; a fitted intercept adds a share of the order 1 / m.

    >>> noisy = TeacherSource(num_features=10, noise=1.0)
    >>> expected_error(noisy, [20, 110]).round(9).tolist()  # noise² / (1 - F / m)
    [2.0, 1.1]

    Args:
      spec: the teacher.
      sizes: m, 1 or more each.
      regularization: λ, 0 or more.

    Raises:
      InputError: a size or the regularization is out of range.
    """
    if regularization < 0.0 or min(sizes, default=1) < 1:
        name, value = ("regularization", regularization) if regularization < 0.0 else ("sizes", min(sizes))
        raise InputError(f"{name}={value} is too small; choose {'0' if name == 'regularization' else '1'} or more")
    variances, powers = _variances(spec), _target_powers(spec)

    def error_at(size: int) -> float:
        kappa = _solve_kappa(variances, size, regularization)
        bias = float(powers @ (kappa / (variances + kappa)) ** 2)
        gamma = float(((variances / (variances + kappa)) ** 2).sum()) / size
        error = bias + spec.noise**2
        if gamma >= 1.0:  # as many examples as features, and no regularization
            return math.inf if error else 0.0
        return error / (1.0 - gamma)

    return np.array([error_at(size) for size in sizes])


def _solve_kappa(variances: np.ndarray, size: int, regularization: float) -> float:
    """Returns the κ at which m = Σ_k λ_k / (λ_k + κ) + regularization / κ; 0 where that would need none."""
    num_features = len(variances)
    if not regularization and size >= num_features:
        return 0.0
    # Each term grows when its λ_k + κ becomes κ alone, and falls when its λ_k becomes the smallest one.
    most = (variances.sum() + regularization) / size
    least = max(regularization / size, variances.min() * (num_features - size) / size)

    def excess(log_kappa: float) -> float:
        kappa = math.exp(log_kappa)
        return float((variances / (variances + kappa)).sum()) + regularization / kappa - size

    root = scipy.optimize.brentq(excess, math.log(least) - 1e-6, math.log(most) + 1e-6, xtol=1e-13)
    return math.exp(root)


def expected_exponent(spec: TeacherSource) -> float:
    """Returns the exponent by which the error of least squares falls with m, without noise and for m well below F.

    It is min(target_exponent - 1, 2 · spectrum_exponent): κ falls as m^-spectrum_exponent; features that are not learnt
    yet, k above m, have the power m^-(target_exponent - 1), and what is still wrong of the others is of the order κ².

    >>> expected_exponent(TeacherSource(spectrum_exponent=1.5, target_exponent=2.0))
    1.0

    Raises:
      InputError: the variances' sum is infinite without a last feature, so that κ depends on F.
    """
    if spec.spectrum_exponent <= 1.0:
        raise InputError(
            f"data.source.spectrum_exponent={spec.spectrum_exponent} gives an exponent that depends on the number of "
            "features; choose one above 1, or use expected_error"
        )
    return min(spec.target_exponent - 1.0, 2.0 * spec.spectrum_exponent)


# --- Markov language ------------------------------------------------------------------------------------------------


def load_markov(spec: MarkovSource, evaluation_size: int) -> Source:
    """Returns sequences of a language of known entropy, [n, T + 1] tokens, to predict the next one.

    The next token is the image of a rank, drawn from p(rank) ∝ rank^-zipf_exponent, under a permutation of the
    vocabulary that belongs to the last `order` tokens. The first `order` tokens are uniform.
    """
    cumulative = np.cumsum(_zipf(spec))[:-1]  # the last would be 1, up to rounding
    num_tokens = spec.sequence_length + 1
    num_uniform = min(spec.order, num_tokens)

    def draw(size: int, stream: int) -> np.ndarray:
        bits = _stream(spec.seed, stream)
        sequences = np.empty((size, num_tokens), np.uint8 if spec.vocab_size <= 2**8 else np.uint16)
        for rows in _chunks(size, num_tokens):
            uniforms = draw_uniforms(bits, (rows.stop - rows.start) * num_tokens).reshape(-1, num_tokens)
            tokens = np.empty(uniforms.shape, np.uint32)
            tokens[:, :num_uniform] = uniforms[:, :num_uniform] * spec.vocab_size
            ranks = np.searchsorted(cumulative, uniforms, side="right").astype(np.uint32)
            for place in range(num_uniform, num_tokens):
                context = tokens[:, place - spec.order : place]
                tokens[:, place] = next_tokens(spec, context, ranks[:, place])
            sequences[rows] = tokens
        return sequences

    return Source(
        name="markov",
        inputs=draw(spec.num_sequences, POOL),
        labels=None,
        eval_inputs=draw(evaluation_size, EVALUATION),
        eval_labels=None,
        num_classes=spec.vocab_size,
        objective="next_token",
        vocab_size=spec.vocab_size,
        facts={"entropy_nats": entropy(spec)},
    )


def next_tokens(spec: MarkovSource, contexts: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Returns the tokens [n] uint32 that have the ranks [n] after contexts [n, order], 0 being the likeliest."""
    keys = np.full(len(contexts), spec.seed, np.uint32)
    for tokens in contexts.T:
        keys = mix(np, keys, tokens)
    return permute(np, ranks.astype(np.uint32), np.uint32(spec.vocab_size), keys)


def entropy(spec: MarkovSource) -> float:
    """Returns the loss of the best predictor, in nats per predicted token, over the T predictions of a sequence.

    It is -Σ p ln p of the Zipf law, but for the uniform tokens after the first, which cost ln V each.

    >>> round(entropy(MarkovSource(vocab_size=4, zipf_exponent=0.0)), 4)  # ln 4
    1.3863
    >>> round(entropy(MarkovSource(vocab_size=2, zipf_exponent=1.0)), 4)  # p = 2/3 and 1/3
    0.6365
    """
    probabilities = _zipf(spec)
    num_uniform = min(spec.order - 1, spec.sequence_length)
    zipf = -math.fsum(p * math.log(p) for p in probabilities if p)
    share = num_uniform / spec.sequence_length
    return share * math.log(spec.vocab_size) + (1.0 - share) * zipf


def _zipf(spec: MarkovSource) -> np.ndarray:
    """Returns the probabilities of the ranks, [V], falling."""
    powers = np.arange(1, spec.vocab_size + 1, dtype=np.float64) ** -spec.zipf_exponent
    return powers / math.fsum(powers)
