"""From a count to a shape, on a made-up family of known counts: a matrix of 1 × W² numbers in each of L blocks."""

import pytest

from scaling.models.counting import sizing
from scaling.models.counting.params import count_params
from scaling.models.counting.sizing import FINE_STEP, MAX_MISS, find_shape
from scaling.models.layers.core import Dense, Layer, Repeat
from scaling.models.shape import Shape
from scaling.specs.base import InputError
from scaling.specs.models import MLPSpec, TransformerSpec, XceptionSpec
from scaling.specs.task import TaskShape


def squares(shape: Shape) -> Layer:
    return Repeat("block", Dense(shape.width**2, bias=False), shape.depth)


def find(spec=MLPSpec, **more) -> Shape:
    """Returns the shape of a specification; what is no field of it is for `find_shape`."""
    fields = {name: value for name, value in more.items() if name in spec.model_fields}
    others = {name: value for name, value in more.items() if name not in fields}
    return find_shape(spec(**fields), TaskShape(1, None, 2), squares, **others)


def total(shape: Shape) -> int:
    return sum(count_params(shape).values())


@pytest.mark.parametrize("request_", [1, 3, 4, 99, 100, 110, 111, 12_345, 10_000_000])
def test_the_nearest_width_is_found(request_):
    found = find(num_params=request_)
    nearest = min(range(1, 4_000), key=lambda width: abs(width**2 - request_))
    assert (found.width, found.depth) == (nearest, 1)


def test_a_given_width_is_taken_as_it_is():
    assert (find(width=37, depth=3).width, find(width=37, depth=3).depth) == (37, 3)


def test_wide_networks_have_widths_that_accelerators_like():
    assert find(num_params=6_464**2).width % 128 == 0  # a multiple of 64 alone
    assert find(num_params=3_301**2).width % 64 == 0
    assert find(num_params=3_199**2).width == 3_199


def test_only_widths_that_the_family_admits_are_found():
    def admits(width: int) -> bool:
        return width % 6 == 0

    assert find(num_params=100**2, admits=admits).width == 102
    with pytest.raises(InputError, match=r"model.width=100: a mlp cannot have it; the nearest it can is 102"):
        find(width=100, admits=admits)
    with pytest.raises(InputError, match="the nearest it can is none near it"):
        find(width=100, admits=lambda width: False)


def test_a_request_that_no_shape_is_near_is_refused_with_the_smallest():
    def admits(width: int) -> bool:
        return width >= 10

    assert total(find(num_params=round(100 / MAX_MISS) + 1, admits=admits)) == 100
    with pytest.raises(InputError, match=r"model.num_params=50: the smallest mlp .* has 100 parameters \(total\)"):
        find(num_params=50, admits=admits)


def test_a_fixed_width_leaves_the_depth_to_the_request():
    found = find(num_params=100 * 41, width=10, aspect="fixed_width")
    assert (found.width, found.depth) == (10, 41)


def test_kaplans_rule_keeps_width_over_depth_and_other_depths_fill_the_gaps():
    for request in (10**4, 10**6, 10**8):
        found = find(TransformerSpec, num_params=request, aspect="kaplan", aspect_ratio=16.0)
        assert total(found) == pytest.approx(request, rel=FINE_STEP - 1)
        assert 0.65 * found.width / 16 - 0.5 <= found.depth <= 1.5 * found.width / 16 + 0.5


def test_levines_rule_has_one_layer_below_its_first_width():
    found = find(TransformerSpec, num_params=100**2, aspect="levine")  # ln 100 < 5.039
    assert found.depth == 1


def test_the_compound_rule_starts_where_it_was_published_and_deepens_faster_than_it_widens():
    for width, depth in ((64, 4), (103, 10)):  # 1.1 and 1.2 to the power of five
        found = find(XceptionSpec, num_params=depth * width**2, aspect="compound", published=(64, 4))
        assert (found.width, found.depth) == (width, depth)


def test_a_larger_request_never_gets_a_smaller_network():
    counts = [total(find(num_params=request, aspect="kaplan")) for request in range(100, 40_000, 371)]
    assert counts == sorted(counts)


def test_few_shapes_are_counted_however_large_the_request(monkeypatch):
    counted = []

    def count(shape: Shape, convention: str) -> int:
        counted.append(shape.width)
        return shape.depth * shape.width**2

    monkeypatch.setattr(sizing, "count_by_convention", count)
    find(num_params=10**11)
    assert len(set(counted)) == len(counted) < 40
