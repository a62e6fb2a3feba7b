"""Guessed roles: from what grows with the width; other tests of users' networks look at the families."""

from scaling.models.tracing.roles import guess_weights, trace
from tests.scaling.models import own_modules
from tests.scaling.models.networks import NUMBERS


def test_without_a_twin_every_matrix_is_hidden():
    traced = trace(own_modules.own_mlp, 16, NUMBERS, {})
    alone, with_twin = guess_weights(traced, None), guess_weights(traced, trace(own_modules.own_mlp, 32, NUMBERS, {}))
    assert {weight.role for path, weight in alone.items() if path[-1] == "kernel"} == {"hidden"}
    assert with_twin[("first", "kernel")].role == "input"
    assert with_twin[("head", "kernel")].role == "output"


def test_a_twin_of_another_depth_tells_the_same():
    traced = trace(own_modules.own_mlp, 16, NUMBERS, {"depth": 2})
    twin = trace(own_modules.own_mlp, 32, NUMBERS, {"depth": 4})
    assert guess_weights(traced, twin)[("others", "0", "kernel")].role == "hidden"
