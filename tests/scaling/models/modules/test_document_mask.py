"""Sequences packed from documents: with a mask, no document sees another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.models.network import build
from scaling.models.registry import make_shape
from scaling.specs.base import InputError
from scaling.specs.execution import Execution
from scaling.specs.models import TransformerSpec
from scaling.specs.task import TaskShape, token_task

PACKED = TaskShape(12, 9, 9, None, "next_token", boundary=8)


@pytest.mark.parametrize(
    ("positions", "execution"),
    [("none", Execution()), ("relative", Execution()), ("none", Execution(scan_blocks=True, remat="full"))],
)
def test_packed_documents_do_not_see_each_other(positions, execution):
    shape = make_shape(TransformerSpec(width=16, depth=2, positions=positions, document_mask=True), PACKED)
    model = build(shape, execution)
    variables = model.init(jax.random.key(0))
    first, second, other = [1, 2, 3, 4, 8], [5, 6, 7, 1, 2, 3, 8], [4, 4, 3, 1, 8]

    def logits(*documents):
        tokens = jnp.array([[token for document in documents for token in document]])
        return model.apply(variables, tokens, train=False, key=None)[0].logits[0]

    whole = logits(first, second)
    np.testing.assert_allclose(whole[5:], logits(other, second)[5:], atol=1e-5)
    assert not np.allclose(logits(first, second)[:5], logits(other, second)[:5], atol=1e-3)
    if positions == "none":  # then a document is the same wherever it stands
        np.testing.assert_allclose(whole[5:], logits(second, first)[:7], atol=1e-5)


def test_a_document_mask_without_documents_is_refused():
    with pytest.raises(InputError, match=r"model.document_mask=true needs sequences packed from documents"):
        make_shape(TransformerSpec(width=16, depth=2, document_mask=True), token_task(9, 12))
