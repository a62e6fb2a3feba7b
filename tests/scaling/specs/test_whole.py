"""The JSON that is put together from parts is pydantic's, and copies do not keep what was the other's."""

import copy
import pickle

import pytest

from scaling.specs.base import canonical_json, fingerprint_text, parse
from scaling.specs.cell import Cell
from scaling.specs.data import AugmentationSpec, DataSpec, DigitsSource
from scaling.specs.models import MLPSpec
from scaling.specs.study import Series, Study
from scaling.specs.training import AdamWSpec, CodeOptimizerSpec, TrainingSpec
from tests.golden.cells import vary


def make_cell(**changes) -> Cell:
    training = TrainingSpec(optimizer=AdamWSpec(peak_lr=1e-3), num_steps=10)
    return Cell(
        **{"model": MLPSpec(width=8), "data": DataSpec(source=DigitsSource(), size=10), "training": training} | changes
    )


CELLS = [
    make_cell(),
    make_cell(seed=2**32 - 1),
    make_cell(data=DataSpec(source=DigitsSource(), size=10, augmentation=AugmentationSpec(), metrics=("auc",))),
    *(
        make_cell(
            training=TrainingSpec(
                optimizer=CodeOptimizerSpec(code="optax:adabelief", settings={"eps": eps, "a": None}, peak_lr=1e-30),
                num_steps=1,
            )
        )
        for eps in (1, 1.0, True, -0.0, 0.0)
    ),
]


@pytest.mark.parametrize("cell", CELLS)
def test_a_cells_json_is_pydantics_with_its_names_sorted(cell):
    text = canonical_json(cell.model_dump(mode="json"))
    assert cell.canonical_json() == text
    assert cell.canonical_json() == text  # from what was kept
    assert cell.fingerprint() == fingerprint_text(text)
    assert parse(Cell, text, "cell").canonical_json() == text


def test_every_kind_of_part_is_written_as_pydantic_does():
    for cell in vary().values():
        assert cell.canonical_json() == canonical_json(cell.model_dump(mode="json"))


def test_values_that_are_equal_and_written_otherwise_are_kept_apart():
    assert len({cell.canonical_json() for cell in CELLS}) == len(CELLS)


def test_a_studys_json_is_pydantics_and_has_no_field_at_a_default_that_is_left_out():
    study = Study(name="a", question='"?"\\ü', metric="error", series=(Series(label="é", cells=(CELLS[0], CELLS[1])),))
    assert study.canonical_json() == canonical_json(study.model_dump(mode="json"))
    assert list(study.cells) == [cell.fingerprint() for cell in CELLS[:2]]
    assert study.cells is not study.cells  # whoever changes it changes their own


def test_copies_with_other_values_have_their_own_fingerprint_and_text():
    cell = make_cell()
    before = cell.fingerprint()
    other = cell.model_copy(update={"seed": 7})
    assert other.fingerprint() == make_cell(seed=7).fingerprint() != before
    study = Study(name="a", question="?", metric="error", series=(Series(label="a", cells=(cell,)),))
    study.canonical_json(), study.cells
    renamed = study.model_copy(update={"name": "b", "series": (Series(label="a", cells=(other,)),)})
    assert renamed.canonical_json() == canonical_json(renamed.model_dump(mode="json"))
    assert list(renamed.cells) == [other.fingerprint()]
    wider = cell.model_copy(update={"model": cell.model.model_copy(update={"width": 9})})
    assert wider.fingerprint() == make_cell(model=MLPSpec(width=9)).fingerprint()


def test_what_is_kept_does_not_make_equal_cells_differ():
    one, other = make_cell(), make_cell()
    one.fingerprint()
    assert one == other
    assert hash(one) == hash(other)
    assert repr(one) == repr(other)
    assert dict(one) == dict(other)
    assert pickle.loads(pickle.dumps(one)) == other  # noqa: S301
    assert copy.deepcopy(one).fingerprint() == other.fingerprint()
