"""Transformers: published counts, sizes on request, and what each form and switch puts into the network."""

import numpy as np
import pytest

from scaling.models.counting.params import count_active, count_by_convention, count_params
from scaling.models.families import transformer
from scaling.models.layers.core import GlobalPool, Norm, Residual, Sequential, walk
from scaling.models.layers.sequence import Attention, EncoderDecoder, LearnedVector, QueryStream
from scaling.models.registry import find_preset, make_shape
from scaling.models.shape import make_layers
from scaling.specs.base import InputError
from scaling.specs.models import TransformerSpec
from scaling.specs.task import TaskShape, token_task
from tests.scaling.models.families.transformers import preset, total

REQUESTS = np.geomspace(1e4, 1e11, 29).astype(int).tolist()
BYTES = transformer.TASK


def sized(num_params, task=BYTES, **fields):
    return make_shape(TransformerSpec(num_params=num_params, **fields), task)


def small(task=BYTES, **fields):
    return make_shape(TransformerSpec(**{"width": 64, "depth": 2} | fields), task)


def visited(shape, kind):
    return [visit.layer for visit in walk(make_layers(shape), shape.task.dims) if isinstance(visit.layer, kind)]


def inside(layer, kind) -> list:
    """Returns the layers of a kind in a tree, those without arrays too."""
    found = [layer] if isinstance(layer, kind) else []
    members = [member for _, member in layer.members] if isinstance(layer, Sequential) else []
    members += [getattr(layer, name) for name in ("branch", "member", "encoder", "decoder") if hasattr(layer, name)]
    return found + [match for member in members for match in inside(member, kind)]


def test_masked_language_modelling_replaces_the_pooler_by_a_dense_layer_a_norm_and_a_bias():
    d, vocab_size = 768, 30_522
    masked = make_shape(find_preset("bert_base").spec, token_task(vocab_size, 512, "masked"))
    pooler = d**2 + d
    assert total(masked) == 109_482_240 - pooler + (d**2 + d) + 2 * d + vocab_size
    assert "pooler" not in count_params(masked)


def test_permuted_language_modelling_runs_a_second_stream_through_the_same_arrays():
    features = preset("xlnet_base")
    permuted = make_shape(find_preset("xlnet_base").spec, token_task(32_000, 512, "permuted"))
    assert total(permuted) == total(features) + 32_000
    assert [layer.is_used for layer in visited(features, LearnedVector)] == [False]
    assert [layer.is_used for layer in visited(permuted, LearnedVector)] == [True]
    assert visited(permuted, Attention)[0].num_streams == 2
    assert visited(features, Attention)[0].num_streams == 1
    assert inside(make_layers(permuted), QueryStream)
    assert make_layers(permuted).output((512,)) == (512, 32_000)
    assert make_layers(features).output((512,)) == (512, 768)


# --- sizes on request -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_params", REQUESTS)
def test_a_request_is_met_within_three_percent(num_params):
    assert total(sized(num_params)) == pytest.approx(num_params, rel=0.03)


@pytest.mark.parametrize("convention", ["non_embedding", "matmul"])
@pytest.mark.parametrize("num_params", [request for request in REQUESTS if request > 1e5])
def test_a_request_under_another_convention_is_met_within_three_percent(num_params, convention):
    """Networks of fewer parameters are so narrow that two widths differ by more."""
    shape = sized(num_params, convention=convention)
    assert count_by_convention(shape, convention) == pytest.approx(num_params, rel=0.03)


@pytest.mark.parametrize(
    "fields",
    [
        {"form": "encoder_decoder"},
        {"is_gated": True, "ff_ratio": 8 / 3, "bias": False, "normalization": "rms", "tied": True},
        {"num_experts": 8},
    ],
    ids=["encoder_decoder", "gated", "experts"],
)
def test_other_forms_meet_a_request_within_three_percent(fields):
    for num_params in [request for request in REQUESTS if request > 1e6]:
        assert total(sized(num_params, **fields)) == pytest.approx(num_params, rel=0.03)


def test_a_larger_request_never_gets_a_smaller_network():
    requests = sorted([*REQUESTS, *np.geomspace(1e6, 2e6, 80).astype(int).tolist()])  # some nearer than two networks
    counts = [total(sized(num_params)) for num_params in requests]
    assert counts == sorted(counts)
    assert len(set(counts)) > len(REQUESTS)


def test_equal_requests_get_equal_networks():
    first = sized(12_345_678)
    make_layers.cache_clear()
    assert sized(12_345_678) == first


@pytest.mark.parametrize("num_params", [10**4, 10**6, 10**8, 10**11])
@pytest.mark.parametrize("aspect", ["kaplan", "levine"])
def test_finding_a_size_builds_few_networks(num_params, aspect):
    make_layers.cache_clear()
    sized(num_params, aspect=aspect)
    assert make_layers.cache_info().misses <= 50


def test_counting_visits_no_more_layers_in_a_deeper_network():
    visits = [len(list(walk(make_layers(small(depth=depth)), BYTES.dims))) for depth in (1, 1000)]
    assert visits[0] == visits[1]


def test_kaplans_aspect_keeps_width_over_depth():
    for num_params in (10**8, 10**9, 10**10):
        shape = sized(num_params, aspect_ratio=100.0)
        assert 0.8 * shape.width / 100 - 0.5 <= shape.depth <= 1.25 * shape.width / 100 + 0.5


def test_levines_aspect_lets_depth_grow_with_the_logarithm_of_width():
    """Levine et al. 2020, equation 11, at the depth or within a quarter of it."""
    for num_params in [request for request in REQUESTS if request > 3e6]:
        shape = sized(num_params, aspect="levine")
        assert total(shape) == pytest.approx(num_params, rel=0.03)
        ideal = (np.log(shape.width) - 5.039) / 0.0555
        assert 0.8 * ideal - 0.5 <= shape.depth <= 1.25 * ideal + 0.5


def test_a_fixed_width_leaves_the_depth_to_the_request():
    shape = sized(50_000_000, aspect="fixed_width", width=256)
    assert shape.width == 256
    assert total(shape) == pytest.approx(50_000_000, rel=0.01)


@pytest.mark.parametrize("aspect", ["kaplan", "levine", "fixed_depth"])
def test_a_given_depth_rules_over_the_aspect(aspect):
    shape = sized(50_000_000, depth=3, aspect=aspect)
    assert shape.depth == 3
    assert total(shape) == pytest.approx(50_000_000, rel=0.03)


def test_a_shape_does_not_remember_the_request():
    assert sized(10_000_000).spec == sized(99_000_000).spec


def test_heads_of_a_given_size_make_every_width_a_multiple_of_it():
    for num_params in (10**7, 10**8, 10**9):
        shape = sized(num_params, head_size=48)
        assert transformer.details(shape)["head_size"] == 48
        assert shape.width % 48 == 0


@pytest.mark.parametrize("num_kv_heads", [1, 2, 4, 8])
def test_sizing_finds_widths_whose_heads_split_into_groups(num_kv_heads):
    for num_params in (3 * 10**5, 10**7, 10**9):
        sizes = transformer.details(sized(num_params, num_kv_heads=num_kv_heads))
        assert sizes["num_heads"] % num_kv_heads == 0
        assert sizes["num_kv_heads"] == num_kv_heads


# --- heads ----------------------------------------------------------------------------------------------------------


def test_heads_are_even_and_fill_every_width_that_splits():
    for width in range(2, 2000):
        if not transformer.can_split(width):
            continue
        num_heads, head_size = transformer.split_heads(width)
        assert num_heads * head_size == width
        assert head_size % 2 == 0
        assert width < 64 or 32 <= head_size <= 128


@pytest.mark.parametrize("width", [320, 768, 1024, 1280, 1600, 4096, 8192])
def test_heads_have_size_64_where_the_width_is_a_multiple_of_it(width):
    assert transformer.split_heads(width) == (width // 64, 64)


def test_heads_have_the_size_nearest_in_ratio_to_64_and_to_16_in_narrow_networks():
    assert transformer.split_heads(480) == (8, 60)  # not 48 or 80
    assert transformer.split_heads(96) == (2, 48)  # 96 is half as much again, 48 a quarter less
    assert transformer.split_heads(48) == (3, 16)
    assert transformer.split_heads(34) == (1, 34)


@pytest.mark.parametrize(("width", "head_size"), [(65, None), (134, None), (33, None), (100, 64)])
def test_a_width_that_splits_into_no_heads_is_refused(width, head_size):
    assert not transformer.can_split(width, head_size)
    with pytest.raises(InputError, match=f"model.width={width}"):
        transformer.split_heads(width, head_size)
    with pytest.raises(InputError, match=f"model.width={width}: a transformer cannot have it; the nearest it can is"):
        small(width=width, head_size=head_size)


# --- what the switches do -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "extra"),
    [
        ({}, 2 * 64),  # the final norm
        ({"norm_position": "post"}, 0),
        ({"normalization": "rms"}, 64 - 4 * 64),  # without biases, five norms of which one is the final one
        ({"normalization": "none"}, -8 * 64),
        ({"residual": False}, 2 * 64),
        ({"positions": "learned"}, 2 * 64 + 256 * 64),
        ({"positions": "sinusoidal"}, 2 * 64),
        ({"tied": True}, 2 * 64 - 256 * 64),
        ({"bias": False}, 2 * 64 - 2 * 9 * 64),
        ({"num_kv_heads": 1, "head_size": 16}, 2 * 64 - 2 * 2 * (64 * 48 + 48)),
        ({"is_gated": True}, 2 * 64 + 2 * (64 * 256 + 256)),
        ({"ff_ratio": 2.0}, 2 * 64 - 2 * (2 * 64 * 128 + 128)),
        ({"num_segments": 2}, 4 * 64),
        ({"has_embedding_norm": True}, 4 * 64),
        ({"num_experts": 4}, 2 * 64 + 2 * (3 * (2 * 64 * 256 + 5 * 64) + 4 * 64)),
    ],
    ids=str,
)
def test_each_switch_changes_the_count_by_its_own_arrays(fields, extra):
    blocks = 2 * (12 * 64**2 + 13 * 64)
    assert total(small(**fields)) == 2 * 256 * 64 + blocks + extra


def test_a_token_uses_top_k_of_the_experts():
    shape = small(num_experts=8, top_k=2)
    expert = 2 * 64 * 256 + 256 + 64
    assert total(shape) - count_active(shape) == 2 * 6 * expert
    assert count_params(shape)["router"] == 2 * 64 * 8


def test_sublayers_have_their_shortcut_only_where_it_is_asked_for():
    assert len(inside(make_layers(small()), Residual)) == 2
    assert len(inside(make_layers(small(form="encoder_decoder")), Residual)) == 5
    assert not inside(make_layers(small(residual=False)), Residual)


def test_a_norm_stands_inside_the_branch_before_and_outside_it_after():
    before, after = (make_layers(small(norm_position=position)) for position in ("pre", "post"))
    assert all(inside(residual.branch, Norm) for residual in inside(before, Residual))
    assert not any(inside(residual.branch, Norm) for residual in inside(after, Residual))
    assert len(inside(before, Norm)) == 3
    assert len(inside(after, Norm)) == 2


def test_only_decoders_are_causal_and_cross_attention_sees_the_whole_source():
    masked = small(token_task(256, 256, "masked"), form="encoder")
    assert [layer.mask for layer in visited(small(), Attention)] == ["causal"]
    assert [layer.mask for layer in visited(masked, Attention)] == ["full"]
    found = visited(small(form="encoder_decoder"), Attention)
    assert [(layer.mask, layer.has_memory, layer.positions) for layer in found] == [
        ("full", False, "rotary"),
        ("causal", False, "rotary"),
        ("full", True, "none"),
    ]


@pytest.mark.parametrize("tied", [True, False])
def test_an_encoder_and_a_decoder_share_one_embedding(tied):
    shape = small(form="encoder_decoder", tied=tied)
    assert isinstance(make_layers(shape), EncoderDecoder)
    assert count_params(shape)["embedding"] == 256 * 64
    assert make_layers(shape).output((256,)) == (256, 256)


@pytest.mark.parametrize(
    ("fields", "pool"),
    [
        ({"form": "decoder"}, "last"),
        ({"form": "encoder"}, "mean"),
        ({"form": "encoder", "has_pooler": True}, "first"),
    ],
)
def test_a_classifier_pools_the_token_that_knows_the_most(fields, pool):
    shape = small(TaskShape(32, 256, 5), **fields)
    assert [layer.kind for layer in inside(make_layers(shape), GlobalPool)] == [pool]
    assert make_layers(shape).output((32,)) == (5,)
    assert count_params(shape)["head"] == 64 * 5 + 5


@pytest.mark.parametrize(
    ("form", "objective", "remedy"),
    [
        ("encoder", "next_token", "model.form=decoder or model.form=encoder_decoder"),
        ("decoder", "masked", "model.form=encoder"),
        ("decoder", "permuted", "model.form=encoder"),
        ("encoder_decoder", "masked", "model.form=encoder"),
        ("encoder_decoder", "classify", "model.form=decoder or model.form=encoder"),
    ],
)
def test_a_form_that_cannot_learn_an_objective_is_refused_with_those_that_can(form, objective, remedy):
    with pytest.raises(InputError, match=f"model.form={form} cannot learn the objective {objective}; choose {remedy}$"):
        small(token_task(256, 64, objective), form=form)


def test_a_permuted_order_needs_positions_in_the_attention():
    with pytest.raises(InputError, match=r"model.positions=learned .* choose model.positions=relative or rotary"):
        small(token_task(256, 64, "permuted"), form="encoder", positions="learned")


def test_images_are_refused():
    with pytest.raises(InputError, match=r"model.kind=transformer needs tokens"):
        make_shape(TransformerSpec(width=64, depth=2), TaskShape(64, None, 10, (8, 8, 1)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 64}, "model.depth is missing"),
        ({"num_params": 10**6, "aspect": "fixed_depth"}, "model.depth is missing"),
        ({"num_params": 10**6, "aspect": "fixed_width"}, "model.width is missing"),
        ({"num_params": 10**6, "width": 64, "depth": 2, "aspect": "fixed_width"}, "leave one of the three out"),
        ({"num_params": 10**6, "width": 64, "depth": 2}, "both are set"),
        ({"width": 64, "depth": 2, "normalization": "batch"}, "normalization"),
    ],
)
def test_a_specification_whose_size_is_not_settled_once_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        TransformerSpec(**fields)


def test_more_experts_a_token_than_there_are_is_refused():
    with pytest.raises(InputError, match="top_k=3"):
        make_layers(small(num_experts=2, top_k=3))


@pytest.mark.parametrize("width", [64, 96, 1000])
def test_a_gated_hidden_width_is_a_multiple_of_eight(width):
    hidden = transformer.find_ff_width(width, 8 / 3, is_gated=True)
    assert hidden % 8 == 0
    assert abs(hidden - 8 / 3 * width) <= 4


def test_a_document_mask_without_documents_is_refused():
    with pytest.raises(InputError, match=r"model.document_mask=true needs sequences packed from documents"):
        make_shape(TransformerSpec(width=16, depth=2, document_mask=True), token_task(9, 12))
