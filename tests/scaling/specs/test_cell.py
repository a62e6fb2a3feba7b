"""Cells: identities that never change, and training where a model needs it."""

import pytest

from scaling.specs.cell import Cell
from scaling.specs.models import ResNetSpec, TransformerSpec
from tests.scaling.specs.cells import FOREST, MLP

# Stores in the wild hold these names. A change here orphans every record that was ever written: see Spec's docstring.
GOLDEN = {"mlp": "c851aea46e34", "forest": "393ce66bc2ba"}


def test_fingerprints_never_change():
    assert {"mlp": MLP.fingerprint(), "forest": FOREST.fingerprint()} == GOLDEN


def test_networks_of_every_family_need_training():
    for model in (TransformerSpec(num_params=1_000), ResNetSpec(width=4)):
        assert Cell(model=model, data=MLP.data, training=MLP.training).model == model
        with pytest.raises(ValueError, match=f"training is missing, but {model.kind} is trained by gradient descent"):
            Cell(model=model, data=MLP.data)
