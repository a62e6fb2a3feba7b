"""Claims about laws of precision: many bits change nothing, and fewer of any kind cost loss."""

import numpy as np
import pytest

from analysis.laws.precision import count_effective_params
from analysis.laws.registry import get_law

AT = {"num_params": [1e8, 1e9], "data_seen": [1e10, 1e11]}
KINDS = ("weight_bits", "activation_bits", "kv_bits")


def test_many_bits_give_chinchillas_loss():
    law, plain = get_law("precision"), get_law("chinchilla")
    bits = {kind: [200.0, 200.0] for kind in KINDS}
    same = {name: law.example[name] for name in plain.params}
    np.testing.assert_allclose(law.predict(law.example, {**AT, **bits}), plain.predict(same, AT), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_bits_of_any_kind_cost_loss(kind):
    law = get_law("precision")
    bits = {name: [16.0, 16.0] for name in KINDS}
    full, coarse = (law.predict(law.example, {**AT, **bits, kind: [few, few]}) for few in (16.0, 4.0))
    assert (coarse > full).all()


def test_effective_parameters_are_a_product_over_kinds():
    alone = [count_effective_params(1.0, (bits,), (scale,)) for bits, scale in ((3.0, 2.0), (5.0, 1.0))]
    assert count_effective_params(1e9, (3.0, 5.0), (2.0, 1.0)) == pytest.approx(1e9 * alone[0] * alone[1])
    assert alone[0] == pytest.approx(1 - np.exp(-1.5))


def test_rounding_after_training_costs_more_the_more_data_were_seen():
    law = get_law("precision_ptq")
    at = {"num_params": [1e8, 1e8], "data_seen": [1e10, 1e12]}
    few, many = (law.predict(law.example, {**at, "post_bits": [bits, bits]}) for bits in (3.0, 200.0))
    assert (few > many).all()
    assert (few - many)[1] > 2 * (few - many)[0]
