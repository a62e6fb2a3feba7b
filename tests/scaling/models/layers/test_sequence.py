"""Layers of sequences count by arithmetic: outputs, arrays and FLOPs are those computed by hand."""

import pytest

from scaling.models.layers import sequence
from scaling.models.layers.core import Dense, Initializer
from scaling.models.layers.sequence import LSTM, Attention, EncoderDecoder, Experts, LearnedPositions
from scaling.specs.base import InputError
from tests.scaling.models.layer_examples import SEQUENCE, counted_arrays, counted_flops, kinds_in


def test_every_layer_has_an_example():
    assert {type(example.layer) for example in SEQUENCE.values()} == set(kinds_in(sequence))


@pytest.mark.parametrize("name", SEQUENCE)
def test_outputs_arrays_and_flops_are_those_computed_by_hand(name):
    layer, dims, output, arrays, flops = SEQUENCE[name]
    assert layer.output(dims) == output
    assert counted_arrays(layer, dims) == arrays
    assert counted_flops(layer, dims) == flops


def test_queries_of_two_streams_meet_the_keys_of_the_tokens_alone():
    one, two = Attention(2, 4, 2, "full", "relative"), Attention(2, 4, 2, "full", "relative", num_streams=2)
    assert {part.name: part.dims for part in two.parts((10, 8))} == {
        "query": (10, 8),
        "key": (5, 8),
        "value": (5, 8),
        "relative": (10, 8),
        "out": (10, 8),
    }
    assert two.flops((10, 8)) == {term: 2 * flops for term, flops in one.flops((5, 8)).items()}


def test_a_token_uses_its_share_of_the_experts_and_all_of_the_router():
    experts = Experts(8, 2, 6, "gelu", bias=True)
    assert {weight.active for weight in experts.weights((5, 4)).values()} == {2 / 8}
    (router,) = experts.parts((5, 4))
    assert router.layer.weights((5, 4))["kernel"].active == 1.0


def test_experts_take_over_how_another_router_starts():
    experts = Experts(8, 2, 6, "gelu")
    (router,) = experts.parts((5, 4))
    changed = experts.with_parts([Dense(8, False, init=Initializer("zeros"), scale=0.25)])
    assert (changed.router_init.kind, changed.router_scale) == ("zeros", 0.25)
    assert experts.with_parts([router.layer]) == experts


def test_an_lstm_on_inputs_of_fixed_size_has_an_input_matrix_and_a_hidden_one():
    roles = [part.layer.weights(part.dims)["kernel"].role for part in LSTM(3, role="input").parts((5, 4))]
    assert roles == ["input", "hidden"]


def test_an_encoder_and_a_decoder_keep_the_order_of_their_parts():
    layer, dims, *_ = SEQUENCE["encoder and decoder"]
    parts = [part.layer for part in layer.parts(dims)]
    assert layer.with_parts(parts) == EncoderDecoder(*parts) == layer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Attention(4, 8, 3, "full"), "num_kv_heads=3 does not divide the 4 heads; choose a divisor"),
        (lambda: Experts(4, 5, 6, "gelu"), "top_k=5 is not between 1 and num_experts=4"),
        (lambda: Experts(4, 0, 6, "gelu"), "top_k=0 is not between 1 and num_experts=4"),
        (lambda: LearnedPositions(4).weights((5, 8)), "5 tokens exceed the 4 learnt positions"),
    ],
)
def test_what_cannot_be_is_refused_with_a_remedy(make, message):
    with pytest.raises(InputError, match=message):
        make()
