"""Records: what two of them prove of the subsets that they saw."""

import json

import pytest

from scaling.data.order.subsets import digest_prefixes
from scaling.specs.base import parse
from scaling.store.record import Record, SubsetManifest
from tests.scaling.data.order.orders import draw
from tests.scaling.store.toy_study import CELLS, make_record


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


def test_a_record_without_an_evaluation_measured_nothing_and_is_refused():
    with pytest.raises(ValueError, match="evaluations"):
        make_record(CELLS[0], evaluations=())


def test_records_before_a_field_was_there_are_still_read():
    later = {"trunk", "waiting_seconds", "train_seconds", "steps_to_target", "loss_spikes", "execution", "mfu"}
    later |= {"num_resumes", "warnings", "schema_version"}
    document = json.loads(make_record(CELLS[0]).canonical_json())
    for name in ("num_unique", "label_noise", "num_noisy", "duplication", "in_evaluation", "facts"):
        del document["data"][name]
    old = {name: value for name, value in document.items() if name not in later}
    assert parse(Record, json.dumps(old), "record.json") == make_record(CELLS[0])
