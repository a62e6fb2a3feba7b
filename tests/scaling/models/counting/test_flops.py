"""FLOPs against published numbers: each convention reproduces the paper that used it."""

import jax
import pytest

from scaling.devices.hardware import model_flops_utilization
from scaling.models.counting.flops import Convention, count_flops
from scaling.models.counting.params import count_active, count_by_convention, count_params
from scaling.models.network import abstract_variables
from scaling.models.registry import make_shape
from scaling.models.shape import Shape
from scaling.specs.models import LSTMSpec, TransformerSpec
from scaling.specs.task import TaskShape, token_task
from tests.scaling.models.networks import NETWORKS, TEXT, examples, loss_of, network


def decoder(width, depth, num_tokens, vocab_size, **fields):
    spec = TransformerSpec(width=width, depth=depth, bias=False, **fields)
    return make_shape(spec, token_task(vocab_size, num_tokens))


def total(terms) -> float:
    return sum(terms.values())


SMALL = decoder(64, 3, 128, 256)


# Hoffmann et al. 2022, tables A4 and A9: parameters in millions, width, head size, heads, layers, and the ratio of
# their FLOPs over 6 N. They print it to two digits; the third is of the same arithmetic.
CHINCHILLA = [
    (73.8, 640, 64, 10, 10, 1.025),
    (305.7, 1024, 64, 16, 20, 1.101),
    (552, 1280, 128, 10, 24, 1.084),
    (1143, 1792, 128, 14, 26, 1.045),
    (1593, 2048, 128, 16, 28, 1.033),
    (6796, 3584, 128, 28, 40, 0.994),
]
CHINCHILLA_TABLE_A4 = Convention(embedding=False, logits=False, attention="full", softmax=True)


@pytest.mark.parametrize(("millions", "width", "head_size", "num_heads", "depth", "ratio"), CHINCHILLA)
def test_chinchillas_ratio_of_flops_to_six_n_leaves_embeddings_and_logits_out(
    millions, width, head_size, num_heads, depth, ratio
):
    assert head_size * num_heads == width
    shape = decoder(width, depth, 2048, 32_000, head_size=head_size)
    exact = total(count_flops(shape, CHINCHILLA_TABLE_A4).train)
    assert exact / (6e6 * millions) == pytest.approx(ratio, abs=0.001)


def test_chinchillas_formula_as_printed_counts_the_vocabulary_twice():
    """Appendix F as printed gives about 1.6 for the smallest model, not the 1.03 of table A4."""
    shape = decoder(640, 10, 2048, 32_000, head_size=64)
    printed = Convention(embedding=True, logits=True, attention="full", softmax=True)
    assert total(count_flops(shape, printed).train) / (6 * 73.8e6) == pytest.approx(1.6, abs=0.03)


# DeepSeek 2024: layers, width, 6 N1 / M and 6 N2 / M for 4,096 tokens and a vocabulary of 102,400. N1 leaves the
# vocabulary out, N2 counts it once, M is the non-embedding FLOPs of a token.
DEEPSEEK = [
    (8, 512, 0.43, 1.32),
    (12, 768, 0.53, 1.02),
    (24, 1024, 0.60, 0.81),
    (24, 2048, 0.75, 0.88),
    (32, 4096, 0.86, 0.91),
    (40, 5120, 0.88, 0.92),
    (80, 8192, 0.92, 0.94),
]


@pytest.mark.parametrize(("depth", "width", "first", "second"), DEEPSEEK)
def test_deepseeks_flops_of_a_token_count_attention_and_not_the_vocabulary(depth, width, first, second):
    shape = decoder(width, depth, 4096, 102_400)
    m = total(count_flops(shape, Convention(logits=False)).train)
    assert m == 72 * depth * width**2 + 12 * depth * width * 4096
    groups = count_params(shape)
    assert round(6 * (groups["attention"] + groups["mlp"]) / m, 2) == first
    assert round(6 * count_by_convention(shape, "matmul") / m, 2) == second


def palm_flops_per_token(num_params: float, depth: int, num_heads: int, head_size: int, num_tokens: int) -> float:
    """PaLM's count of a token's training FLOPs: 6 N + 12 L H K T (Chowdhery et al. 2022, appendix B)."""
    return 6.0 * num_params + 12.0 * depth * num_heads * head_size * num_tokens


def test_palms_utilization_is_the_published_one():
    """Chowdhery et al. 2022, section 4.1: 46.2 % with attention, 45.7 % without."""
    n, chips, peak, speed = 540.35e9, 6144, 275e12, 238.3e3
    with_attention = palm_flops_per_token(n, depth=118, num_heads=48, head_size=256, num_tokens=2048)
    assert model_flops_utilization(speed, with_attention, chips, peak) == pytest.approx(0.4623, abs=5e-5)
    assert model_flops_utilization(speed, 6 * n, chips, peak) == pytest.approx(0.4573, abs=5e-5)


def test_palms_rule_equals_our_count_where_its_parameters_are_all_in_products():
    shape = decoder(512, 6, 1024, 1000, head_size=64)
    ours = total(count_flops(shape).train)
    assert ours == palm_flops_per_token(count_by_convention(shape, "matmul"), 6, 8, 64, 1024)


def test_training_is_three_times_forward():
    flops = count_flops(SMALL)
    assert {term: 3 * count for term, count in flops.forward.items()} == flops.train
    assert flops.unit == "per token"


def test_a_causal_mask_lets_half_the_pairs_through_and_the_diagonal():
    full, causal, none = (
        count_flops(SMALL, Convention(attention=attention, softmax=True)).forward
        for attention in ("full", "causal", "none")
    )
    for term in ("attention", "softmax"):
        assert causal[term] / full[term] == pytest.approx((128 + 1) / (2 * 128))
        assert term not in none
    assert full["attention"] == 3 * 4 * 128 * 64
    assert full["softmax"] == 3 * 3 * 128  # one head of 64


def test_an_encoders_attention_is_full_whatever_the_convention_says_of_causal_masks():
    task = token_task(256, 128, "masked")
    shape = make_shape(TransformerSpec(width=64, depth=3, form="encoder"), task)
    full, causal = (count_flops(shape, Convention(attention=kind)).forward["attention"] for kind in ("full", "causal"))
    assert full == causal


@pytest.mark.parametrize(
    ("switch", "term"), [("embedding", "embedding"), ("logits", "logits"), ("softmax", "softmax"), ("norms", "norm")]
)
def test_each_switch_adds_its_own_term_and_no_other(switch, term):
    on = count_flops(SMALL, Convention(**{"logits": False, switch: True})).forward
    off = count_flops(SMALL, Convention(**{"logits": False, switch: False})).forward
    assert term not in off
    assert {name: count for name, count in on.items() if name != term} == off
    assert on[term] > 0


def test_recomputing_all_blocks_adds_their_forward_pass_to_the_hardware_alone():
    plain, remat = (count_flops(SMALL, Convention(remat=remat)) for remat in (False, True))
    assert plain.hardware == total(plain.train) == total(remat.train)
    assert remat.hardware - plain.hardware == total(plain.forward) - plain.forward["logits"]
    blocks = Convention(logits=False, attention="none")
    matrices = 12 * 3 * 64**2
    assert count_flops(SMALL, blocks).hardware == 6 * matrices
    assert count_flops(SMALL, Convention(logits=False, attention="none", remat=True)).hardware == 8 * matrices


def test_a_token_pays_for_its_experts_and_for_the_router_but_not_for_the_other_experts():
    dense, routed = decoder(64, 3, 128, 256), decoder(64, 3, 128, 256, num_experts=8, top_k=2)
    dense_flops, routed_flops = count_flops(dense).forward, count_flops(routed).forward
    assert routed_flops["mlp"] == 2 * dense_flops["mlp"]
    assert routed_flops["router"] == 3 * 2 * 64 * 8
    all_params = total(count_params(routed))
    assert all_params - count_active(routed) == 3 * 6 * 2 * 64 * 256
    assert count_active(dense) == total(count_params(dense))


@pytest.mark.parametrize("num_kv_heads", [1, 4])
def test_fewer_key_and_value_heads_save_projections_but_no_scores(num_kv_heads):
    full = count_flops(decoder(128, 2, 64, 256, head_size=16)).forward
    grouped = count_flops(decoder(128, 2, 64, 256, head_size=16, num_kv_heads=num_kv_heads)).forward
    saved = 2 * 2 * 2 * 128 * (128 - 16 * num_kv_heads)
    assert full["attention_projections"] - grouped["attention_projections"] == saved
    assert full["attention"] == grouped["attention"]


def test_an_encoder_and_a_decoder_look_up_the_source_and_the_target():
    spec = TransformerSpec(width=64, depth=1, form="encoder_decoder", has_embedding_norm=True)
    forward = count_flops(make_shape(spec, token_task(256, 32)), Convention(embedding=True, norms=True)).forward
    assert forward["embedding"] == 2 * 2 * 256 * 64
    assert forward["norm"] == (2 + 5 + 2) * 7 * 64  # embeddings, sublayers, final norms
    assert forward["attention"] == 3 * 4 * 32 * 64


def test_a_query_stream_attends_to_the_tokens_and_costs_as_much_as_they_do():
    spec = TransformerSpec(width=64, depth=2, form="encoder", positions="relative")
    plain, permuted = (
        count_flops(make_shape(spec, token_task(256, 32, objective)), Convention(logits=False)).forward
        for objective in ("none", "permuted")
    )
    assert permuted["mlp"] == 2 * plain["mlp"]
    assert permuted["attention"] == 2 * plain["attention"]


def test_a_classifier_counts_an_example_and_not_a_token():
    shape = make_shape(TransformerSpec(width=64, depth=2), TaskShape(32, 256, 5))
    flops = count_flops(shape)
    assert flops.unit == "per example"
    assert flops.forward["mlp"] == 32 * 2 * 2 * 8 * 64**2
    assert flops.forward["logits"] == 2 * 64 * 5


def measured_flops(shape: Shape, batch: int = 8) -> float:
    """Returns XLA's count of the FLOPs of a training step, per example; nothing is compiled or run."""
    variables = abstract_variables(shape)

    def step(params, state):
        return loss_of(shape, examples(shape.task, batch), state)(params)[0]

    lowered = jax.jit(jax.grad(step)).lower(variables["params"], variables["state"])
    return lowered.cost_analysis()["flops"] / batch


def counted_flops(shape: Shape) -> float:
    counted = sum(count_flops(shape, Convention(embedding=True)).train.values())
    return counted * (shape.task.num_features if shape.task.predicts_tokens else 1)


# Counted over measured. XLA counts element-wise work (activations, norms, softmax, loss) too, which leaves the counted
# products a little below; on larger networks it vanishes. Kernels beyond 5 × 5 run as XLA's convolutions, for which it
# skips the padded places that the published MACs and ours include. A one-hot embedding is counted as three products,
# but its input needs no gradient. LSTMs and mixed experts have tests of their own.
TOLERANCES = {
    "lenet5": (0.6, 1.0),
    "mlp residual": (0.75, 1.0),
    "alexnet": (0.9, 1.15),
    "mlp on tokens": (0.9, 1.1),
    "encoder permuted": (0.9, 1.1),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if "ception" in name else ())
        for name in NETWORKS
        if "lstm" not in name and "experts" not in name
    ],
)
def test_training_flops_equal_xlas_count(name):
    low, high = TOLERANCES.get(name, (0.8, 1.02))
    assert low < counted_flops(network(name)) / measured_flops(network(name)) < high


@pytest.mark.parametrize("width", [32, 256])
def test_lstm_flops_equal_xlas_count(width):
    """On one token: XLA counts the body of a loop over tokens once."""
    shape = make_shape(LSTMSpec(width=width, depth=2), token_task(32, 1))
    assert counted_flops(shape) / measured_flops(shape) == pytest.approx(1.0, abs=0.1)


def test_expert_flops_equal_xlas_count_where_one_expert_serves_all():
    """XLA counts a ragged product as if every expert ran on every row."""
    shape = make_shape(TransformerSpec(width=64, depth=2, num_experts=1, top_k=1), TEXT)
    assert counted_flops(shape) / measured_flops(shape) == pytest.approx(1.0, abs=0.1)


def test_element_wise_work_vanishes_on_a_large_decoder():
    shape = make_shape(TransformerSpec(width=512, depth=2), token_task(256, 128))
    assert counted_flops(shape) / measured_flops(shape) == pytest.approx(1.0, abs=0.015)
