"""Descriptions: documents that say how a network was asked for, and refusals that say how it should be."""

import json

import pytest

from scaling.models.description import describe_family, describe_preset, list_networks
from scaling.specs.base import InputError


def test_a_description_is_json_and_its_groups_sum_to_the_total():
    found = describe_preset("lenet300_100", [])
    assert json.loads(json.dumps(found))["shape"] == found["shape"]
    groups = {name: count for name, count in found["num_params"].items() if name != "total"}
    assert sum(groups.values()) == found["num_params"]["total"] == 266_610
    assert found["request"] is None  # its width was given


def test_a_description_says_how_far_it_is_from_the_request():
    found = describe_family("mlp", 10_000, ["model.depth=2"])
    assert found["shape"]["depth"] == 2
    miss = found["num_params"]["total"] / 10_000 - 1
    assert found["request"] == {"num_params": 10_000, "convention": "total", "miss": pytest.approx(miss)}


def test_what_is_derived_from_the_width_is_shown_beside_it():
    found = describe_preset("gpt2", ["model.num_kv_heads=4"])
    assert (found["shape"]["width"], found["shape"]["num_heads"], found["shape"]["num_kv_heads"]) == (768, 12, 4)


def test_estimators_are_described_without_a_size_and_without_flops():
    rows = list_networks("classical")
    assert {row["family"] for row in rows} >= {"random_forest", "logistic_regression", "ridge"}
    found = describe_family("logistic_regression", None, [])
    assert found["num_params"]["total"] == 28 * 28 * 10 + 10
    assert (found["flops"], found["request"]) == (None, None)
    assert describe_family("random_forest", None, [])["num_params"] is None


@pytest.mark.parametrize(
    ("kind", "num_params", "message"),
    [
        ("mpl", 1000, "--family mpl: there is no such family; did you mean 'mlp'"),
        ("random_forest", 1000, "random_forest has the size that its data gives it; leave --params out"),
        ("vit", None, "--params is missing: give vit a size, for example --params 10M, or --set model.width=64"),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused_with_a_remedy(kind, num_params, message):
    with pytest.raises(InputError) as caught:
        describe_family(kind, num_params, [])
    assert message in str(caught.value)
