"""Parameters by group, by convention and by use: a decoder small enough to be counted by hand."""

import pytest

from scaling.models.counting.params import LOOKUP_TABLES, count_active, count_by_convention, count_params
from scaling.models.registry import make_shape
from scaling.specs.models import TransformerSpec
from scaling.specs.task import token_task

# D = 8 in 2 blocks with F = 32, over 11 tokens in 5 places.
BLOCKS = 2 * (4 * 8 * 8 + 2 * 8 * 32)
TABLES = 11 * 8 + 5 * 8
NORMS = (2 * 2 + 1) * 8


def decoder(**fields):
    spec = TransformerSpec(width=8, depth=2, positions="learned", normalization="rms", bias=False, **fields)
    return make_shape(spec, token_task(11, 5))


def test_groups_are_those_counted_by_hand():
    assert count_params(decoder()) == {
        "embedding": 11 * 8,
        "positions": 5 * 8,
        "attention": 2 * 4 * 8 * 8,
        "mlp": 2 * 2 * 8 * 32,
        "norm": NORMS,
        "head": 8 * 11,
    }


@pytest.mark.parametrize(
    ("tied", "convention", "expected"),
    [
        (False, "total", TABLES + BLOCKS + NORMS + 8 * 11),
        (False, "non_embedding", BLOCKS + NORMS + 8 * 11),
        (False, "matmul", BLOCKS + 8 * 11),
        (True, "total", TABLES + BLOCKS + NORMS),
        (True, "non_embedding", BLOCKS + NORMS),
        (True, "matmul", BLOCKS + 8 * 11),  # the tied table is multiplied by, once
    ],
)
def test_a_convention_counts_what_it_says(tied, convention, expected):
    assert count_by_convention(decoder(tied=tied), convention) == expected


def test_lookup_tables_are_groups_that_are_counted():
    assert set(LOOKUP_TABLES) <= set(count_params(decoder()))


def test_a_token_uses_all_but_the_experts_that_it_is_not_sent_to():
    dense, routed = decoder(), decoder(num_experts=4, top_k=1)
    assert count_active(dense) == count_by_convention(dense, "total")
    assert count_by_convention(routed, "total") - count_active(routed) == 2 * 3 * (2 * 8 * 32)


def test_an_unknown_convention_is_an_error_and_not_a_count():
    with pytest.raises(AssertionError, match="everything"):
        count_by_convention(decoder(), "everything")
