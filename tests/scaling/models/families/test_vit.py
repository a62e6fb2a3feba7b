"""Vision transformers: published counts, sizes on request, and how an image becomes tokens."""

import numpy as np
import pytest

from scaling.models.counting.flops import Convention, count_flops
from scaling.models.counting.params import count_by_convention, count_params
from scaling.models.families import vit
from scaling.models.registry import find_preset, make_shape
from scaling.models.shape import make_layers
from scaling.specs.base import InputError
from scaling.specs.models import ViTSpec
from scaling.specs.task import TaskShape, token_task

REQUESTS = np.geomspace(1e4, 1e11, 29).astype(int).tolist()


def preset(name):
    found = find_preset(name)
    return make_shape(found.spec, found.task)


def total(shape) -> int:
    return sum(count_params(shape).values())


def sized(num_params, **fields):
    return make_shape(ViTSpec(num_params=num_params, **fields), vit.TASK)


@pytest.mark.parametrize(
    ("name", "count", "num_heads"),
    [
        ("vit_ti16", 5_717_416, 3),
        ("vit_s16", 22_050_664, 6),
        ("vit_b16", 86_567_656, 12),
        ("vit_l16", 304_326_632, 16),
        ("vit_h14", 632_045_800, 16),
    ],
)
def test_published_networks_have_exactly_their_parameters(name, count, num_heads):
    assert total(preset(name)) == count
    assert vit.details(preset(name))["num_heads"] == num_heads


@pytest.mark.parametrize(("attention", "gigamacs"), [("full", 17.564), ("none", 16.849)])
def test_the_base_network_has_the_published_multiply_adds(attention, gigamacs):
    forward = count_flops(preset("vit_b16"), Convention(attention=attention)).forward
    assert round(sum(forward.values()) / 2 / 1e9, 3) == gigamacs


def test_flops_are_counted_under_the_names_of_the_terms():
    forward = count_flops(preset("vit_b16")).forward
    assert forward["conv"] == 2 * 196 * 768 * 768
    assert forward["attention_projections"] == 2 * 12 * 197 * 4 * 768**2
    assert forward["attention"] == 2 * 12 * 2 * 197**2 * 768
    assert forward["mlp"] == 2 * 12 * 197 * 8 * 768**2
    assert forward["logits"] == 2 * 768 * 1000
    assert set(forward) == {"conv", "attention_projections", "attention", "mlp", "logits"}


@pytest.mark.parametrize("num_params", [request for request in REQUESTS if request > 3e4])
def test_a_request_is_met_within_three_percent(num_params):
    """Networks of fewer parameters are so narrow that two widths differ by up to 10 %."""
    assert total(sized(num_params)) == pytest.approx(num_params, rel=0.03)


@pytest.mark.parametrize("num_params", REQUESTS[:2])
def test_the_smallest_requests_are_met_within_five_percent(num_params):
    assert total(sized(num_params)) == pytest.approx(num_params, rel=0.05)


@pytest.mark.parametrize("convention", ["non_embedding", "matmul"])
def test_other_conventions_are_met_within_three_percent(convention):
    for num_params in [request for request in REQUESTS if request > 5e4]:
        found = count_by_convention(sized(num_params, convention=convention), convention)
        assert found == pytest.approx(num_params, rel=0.03)


def test_a_larger_request_never_gets_a_smaller_network():
    requests = sorted([*REQUESTS, *np.geomspace(1e6, 2e6, 80).astype(int).tolist()])  # some nearer than two networks
    counts = [total(sized(num_params)) for num_params in requests]
    assert counts == sorted(counts)
    assert len(set(counts)) > len(REQUESTS)


def test_equal_requests_get_equal_networks():
    first = sized(12_345_678)
    make_layers.cache_clear()
    assert sized(12_345_678) == first


@pytest.mark.parametrize("num_params", [10**4, 10**7, 10**11])
def test_finding_a_size_builds_few_networks(num_params):
    make_layers.cache_clear()
    sized(num_params)
    assert make_layers.cache_info().misses <= 50


def test_levines_aspect_lets_depth_grow_with_the_logarithm_of_width():
    shape = sized(10**9, aspect="levine")
    assert total(shape) == pytest.approx(10**9, rel=0.03)
    ideal = (np.log(shape.width) - 5.039) / 0.0555
    assert 0.8 * ideal - 0.5 <= shape.depth <= 1.25 * ideal + 0.5


def test_a_fixed_width_leaves_the_depth_to_the_request():
    shape = sized(10**7, aspect="fixed_width", width=192)
    assert shape.width == 192
    assert total(shape) == pytest.approx(10**7, rel=0.03)


def test_a_given_depth_rules_over_the_aspect():
    shape = sized(10**7, depth=3)
    assert shape.depth == 3
    assert total(shape) == pytest.approx(10**7, rel=0.03)


def test_the_mean_of_all_tokens_needs_no_class_token_and_no_place_for_it():
    with_token, without = (
        make_shape(ViTSpec(width=64, depth=2, pooling=pooling), vit.TASK) for pooling in ("class_token", "mean")
    )
    assert total(with_token) - total(without) == 2 * 64
    assert count_params(without)["positions"] == 64 * 64
    assert make_layers(without).output(vit.TASK.dims) == (10,)


def test_features_leave_the_head_out():
    task = TaskShape(3072, None, 10, (32, 32, 3), "none")
    shape = make_shape(ViTSpec(width=64, depth=2), task)
    assert make_layers(shape).output(task.dims) == (64,)
    assert "head" not in count_params(shape)


def test_patches_that_do_not_tile_the_image_are_refused_with_some_that_do():
    with pytest.raises(InputError, match=r"model.patch_size=5 does not tile images of 32 by 32; .* such as 4$"):
        make_shape(ViTSpec(width=64, depth=2, patch_size=5), vit.TASK)


def test_tokens_are_refused():
    with pytest.raises(InputError, match=r"model.kind=vit needs images"):
        make_shape(ViTSpec(width=64, depth=2), token_task(256, 64))
