"""Claims about declared fits: the defaults stand once, and what cannot be fitted so is refused by name."""

import pytest

from scaling.specs.base import InputError, parse
from scaling.specs.fits import DELTA, LAW, OBJECTIVE, FitSpec


def test_a_study_that_declares_nothing_has_the_defaults():
    assert FitSpec() == FitSpec(law=LAW, objective=OBJECTIVE, delta=DELTA, smallest_size=1)
    assert parse(FitSpec, "{}", "fit") == FitSpec()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"objective": "asymmetric"}', "objective"),
        ('{"delta": 0}', "delta=0: Input should be greater than 0"),
        ('{"smallest": 3}', "did you mean 'smallest_size'"),
    ],
)
def test_what_a_study_cannot_declare_is_refused_by_name(text, message):
    with pytest.raises(InputError, match=message):
        parse(FitSpec, text, "fit")
