"""Published transformers: their parameters, heads and blocks are those of the papers."""

import pytest

from scaling.models.counting.params import count_params
from scaling.models.families import transformer
from tests.scaling.models.families.transformers import preset, total


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("gpt2", 124_439_808),
        ("gpt2_medium", 354_823_168),
        ("gpt2_large", 774_030_080),
        ("gpt2_xl", 1_557_611_200),
        ("bert_base", 109_482_240),
        ("bert_large", 335_141_888),
        ("xlnet_base", 116_718_336),
        ("xlnet_large", 360_268_800),
        ("transformer_base", 63_082_496),
        ("transformer_big", 214_245_376),
    ],
)
def test_published_networks_have_exactly_their_parameters(name, count):
    assert total(preset(name)) == count


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("gpt3_small", 125),
        ("gpt3_medium", 356),
        ("gpt3_large", 760),
        ("gpt3_xl", 1320),
        ("gpt3_2_7b", 2650),
        ("gpt3_6_7b", 6660),
        ("gpt3_13b", 12_850),
        ("gpt3_175b", 174_600),
    ],
)
def test_gpt3_has_the_parameters_of_its_table_of_compute(name, millions):
    """Brown et al. 2020, table D.1."""
    assert total(preset(name)) == pytest.approx(1e6 * millions, rel=0.005)


@pytest.mark.parametrize(
    ("name", "num_heads"),
    [("gpt3_small", 12), ("gpt3_large", 16), ("gpt3_2_7b", 32), ("gpt3_175b", 96), ("gpt2_xl", 25)],
)
def test_gpt_has_the_published_number_of_heads(name, num_heads):
    assert transformer.details(preset(name))["num_heads"] == num_heads


@pytest.mark.parametrize("name", ["gpt2", "gpt2_medium", "gpt2_large", "gpt2_xl"])
def test_gpt2_has_twelve_times_width_squared_in_each_block(name):
    shape = preset(name)
    d, blocks, vocab_size, num_tokens = shape.width, shape.depth, 50_257, 1024
    assert total(shape) == (vocab_size + num_tokens) * d + blocks * (12 * d**2 + 13 * d) + 2 * d
    groups = count_params(shape)
    assert groups["embedding"] == vocab_size * d
    assert groups["positions"] == num_tokens * d
    assert groups["attention"] == blocks * (4 * d**2 + 4 * d)
    assert groups["mlp"] == blocks * (8 * d**2 + 5 * d)
    assert groups["norm"] == (2 * blocks + 1) * 2 * d
