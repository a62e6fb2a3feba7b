"""LSTMs: published counts, sizes on request, and where dropout, norms and shortcuts stand."""

import numpy as np
import pytest

from scaling.models.counting.flops import count_flops
from scaling.models.counting.params import count_by_convention, count_params
from scaling.models.families import lstm
from scaling.models.layers.core import Dropout, Repeat, Residual, walk
from scaling.models.registry import find_preset, make_shape
from scaling.models.shape import make_layers
from scaling.specs.base import InputError
from scaling.specs.models import LSTMSpec
from scaling.specs.task import TaskShape, image_task, token_task

REQUESTS = np.geomspace(1e4, 1e11, 29).astype(int).tolist()


def total(shape) -> int:
    return sum(count_params(shape).values())


def sized(num_params, **fields):
    return make_shape(LSTMSpec(num_params=num_params, **fields), lstm.TASK)


def small(task=lstm.TASK, **fields):
    return make_shape(LSTMSpec(**{"width": 16} | fields), task)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("zaremba_lstm_small", 4_651_600),
        ("zaremba_lstm_medium", 19_775_200),
        ("zaremba_lstm_large", 66_022_000),
    ],
)
def test_published_networks_have_exactly_their_parameters(name, count):
    found = find_preset(name)
    assert total(make_shape(found.spec, found.task)) == count


def test_a_step_multiplies_by_every_matrix_of_the_layers_once():
    found = find_preset("zaremba_lstm_medium")
    forward = count_flops(make_shape(found.spec, found.task)).forward
    assert forward == {"recurrent": 2 * 2 * 4 * 650 * 1300, "logits": 2 * 650 * 10_000}


@pytest.mark.parametrize("convention", ["total", "non_embedding", "matmul"])
@pytest.mark.parametrize("aspect", ["fixed_depth", "kaplan"])
def test_a_request_is_met_within_three_percent(convention, aspect):
    for num_params in REQUESTS:
        shape = sized(num_params, convention=convention, aspect=aspect)
        assert count_by_convention(shape, convention) == pytest.approx(num_params, rel=0.03)


def test_a_larger_request_never_gets_a_smaller_network():
    requests = sorted([*REQUESTS, *np.geomspace(1e4, 1e5, 200).astype(int).tolist()])  # some nearer than two networks
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
    sized(num_params, aspect="kaplan")
    assert make_layers.cache_info().misses <= 15


def test_a_fixed_width_leaves_the_depth_to_the_request():
    shape = sized(10**6, aspect="fixed_width", width=64)
    assert shape.width == 64
    assert total(shape) == pytest.approx(10**6, rel=0.03)


def test_a_table_of_given_width_makes_the_first_layer_an_input_layer():
    def first_matrices(shape):
        return {
            visit.path: visit.layer.weights(visit.dims)["kernel"]
            for visit in walk(make_layers(shape), shape.task.dims)
            if visit.path[0] == "layer_0"
        }

    given, own = first_matrices(small(embedding_width=8)), first_matrices(small())
    assert given["layer_0", "input"].shape == (8, 64)
    assert given["layer_0", "input"].role == "input"
    assert own["layer_0", "input"].role == "hidden"
    assert given["layer_0", "recurrent"].role == "hidden"


def test_dropout_stands_after_the_embedding_and_after_every_layer_but_never_in_time():
    root = make_layers(small(dropout=0.5, depth=3))
    names = [name for name, _ in root.members]
    assert names == ["embedding", "dropout", "layer_0", "layer", "last_dropout", "head"]
    repeat = dict(root.members)["layer"]
    assert isinstance(repeat, Repeat)
    assert [name for name, _ in repeat.member.members] == ["dropout", "lstm"]
    assert repeat.copies == 2
    assert isinstance(dict(root.members)["last_dropout"], Dropout)


def test_norms_and_shortcuts_are_those_of_the_layers_after_the_first():
    shape = small(depth=4, residual=True, normalization="layer")
    assert count_params(shape)["norm"] == 3 * 2 * 16
    repeat = dict(make_layers(shape).members)["layer"]
    assert isinstance(repeat.member, Residual)
    assert total(small(depth=4, residual=True)) == total(small(depth=4))


def test_a_classifier_reads_the_last_token():
    shape = small(TaskShape(20, 256, 5))
    assert make_layers(shape).output((20,)) == (5,)
    assert dict(make_layers(shape).members)["pool"].kind == "last"
    assert count_params(shape)["head"] == 16 * 5 + 5


def test_features_leave_the_readout_out():
    assert make_layers(small(token_task(256, 20, "none"))).output((20,)) == (20, 16)


@pytest.mark.parametrize("objective", ["masked", "permuted"])
def test_objectives_that_need_both_sides_of_a_token_are_refused(objective):
    with pytest.raises(InputError, match=f"the objective {objective}, .* choose a transformer with model.form=encoder"):
        small(token_task(256, 20, objective))


def test_images_are_refused():
    with pytest.raises(InputError, match=r"model.kind=lstm needs tokens"):
        small(image_task(8, 10))
