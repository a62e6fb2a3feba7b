"""Records: what two of them prove of the subsets that they saw."""

from scaling.data.order.subsets import digest_prefixes
from scaling.store.record import SubsetManifest
from tests.scaling.data.order.orders import draw


def manifest(size: int, seed: int = 0, digests: dict[str, str] | None = None) -> SubsetManifest:
    indices = draw("independent", size, seed)
    return SubsetManifest(
        source="x",
        source_sha256="hash",
        order="independent",
        seed=seed,
        size=size,
        digests=digest_prefixes(indices, (100, 200, 400, size)) if digests is None else digests,
        class_counts=(),
        evaluation_size=1,
        evaluation_sha256="",
    )


def test_two_records_prove_that_their_subsets_nest():
    assert manifest(100).is_prefix_of(manifest(200))
    assert manifest(200).is_prefix_of(manifest(200))


def test_nothing_is_proven_of_other_draws_or_in_the_wrong_direction():
    assert not manifest(100).is_prefix_of(manifest(200, seed=1))
    assert not manifest(200).is_prefix_of(manifest(100))
    assert not manifest(100).is_prefix_of(manifest(200).model_copy(update={"source_sha256": "other"}))
