"""Models: exactly one thing settles a size, and what came later leaves old cells alone."""

import typing

import pytest

from scaling.specs.base import InputError, parse
from scaling.specs.models import (
    LinearSVMSpec,
    MLPSpec,
    ModelSpec,
    NetworkSpec,
    RidgeSpec,
    TransformerSpec,
    ViTSpec,
)

KINDS = {kind.model_fields["kind"].default: kind for kind in typing.get_args(typing.get_args(ModelSpec)[0])}
NETWORKS = {kind: spec for kind, spec in KINDS.items() if issubclass(spec, NetworkSpec)}


def sized(kind: str, **fields):
    own = {"depth": 2} if "depth" in NETWORKS[kind].model_fields else {}
    own |= {"code": "mine:make"} if kind == "module" else {}
    return NETWORKS[kind](**own | fields)


def test_no_two_models_have_one_name():
    assert len(KINDS) == len(typing.get_args(typing.get_args(ModelSpec)[0]))


def test_an_old_network_is_written_as_the_first_release_wrote_it():
    assert MLPSpec(num_params=1000).canonical_json() == (
        '{"activation":"relu","depth":1,"embedding_width":8,"kind":"mlp","num_params":1000}'
    )


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_network_is_sized_by_its_parameters_or_by_its_width(kind):
    for size in ({"num_params": 1000}, {"width": 64}):
        spec = sized(kind, **size)
        assert parse(NETWORKS[kind], spec.canonical_json(), "here") == spec
    for size, given in (({}, "neither is"), ({"num_params": 1000, "width": 64}, "both are")):
        with pytest.raises(
            ValueError, match=f"model.num_params and model.width: {given} set; set the one that decides"
        ):
            sized(kind, **size)


@pytest.mark.parametrize("kind", [kind for kind in NETWORKS if kind != "module"])
def test_a_fixed_width_needs_a_width_beside_the_parameters(kind):
    with pytest.raises(ValueError, match=r"model\.aspect=fixed_width: model\.width is missing; set the width that is"):
        NETWORKS[kind](num_params=1000, aspect="fixed_width")


@pytest.mark.parametrize("spec", [TransformerSpec, ViTSpec])
def test_a_transformers_depth_is_given_or_follows_from_its_aspect(spec):
    assert spec(num_params=1000).depth is None
    assert spec(width=64, depth=3).depth == 3
    with pytest.raises(ValueError, match=r"model\.depth is missing; set it, or give num_params and an aspect rule"):
        spec(width=64)
    with pytest.raises(ValueError, match=r"model\.depth=3: num_params and width decide the depth; leave one of the"):
        spec(num_params=1000, width=64, depth=3, aspect="fixed_width")


def test_estimators_have_no_size_to_ask_for():
    for text in ('{"num_params": 1000}', '{"width": 64}'):
        with pytest.raises(InputError, match="there is no field"):
            parse(LinearSVMSpec, text, "here")
    assert RidgeSpec(regularization=0.0).regularization == 0.0  # least squares
