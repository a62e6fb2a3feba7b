"""Claims about the fields of specifications as flat values, and which of them vary."""

from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource
from scaling.specs.fields import find_varying, flatten_cell, to_columns
from scaling.specs.models import MLPSpec, RandomForestSpec, TransformerSpec
from scaling.specs.training import AdamWSpec, SGDSpec, TrainingSpec

DATA = DataSpec(source=DigitsSource(), size=100)


def flat(model, training=None, seed=0):
    return flatten_cell(Cell(model=model, data=DATA, training=training, seed=seed).model_dump(mode="json"))


def test_a_field_that_json_leaves_out_has_its_default():
    training = TrainingSpec(optimizer=AdamWSpec(peak_lr=0.1), num_steps=10)
    plain, residual = (flat(MLPSpec(width=8, depth=2, residual=each), training) for each in (False, True))
    assert (plain["model.residual"], residual["model.residual"]) == (False, True)
    assert find_varying([plain, residual]) == ["model.residual"]


def test_what_another_kind_of_part_has_does_not_vary():
    adam, sgd = (
        flat(MLPSpec(width=8), TrainingSpec(optimizer=each, num_steps=10))
        for each in (AdamWSpec(peak_lr=0.1), SGDSpec(peak_lr=0.1))
    )
    forest = flat(RandomForestSpec())
    assert find_varying([adam, forest]) == ["model.kind"]
    names = find_varying([adam, sgd])
    assert "training.optimizer.kind" in names
    assert "training.optimizer.b2" not in names


def test_a_part_that_some_cells_of_a_kind_lack_varies():
    cells = [{"model.kind": "a", "model.moe": None}, {"model.kind": "a", "model.moe.num_experts": 4}]
    assert "model.moe.num_experts" in find_varying(cells)


def test_seeds_and_sizes_vary_in_the_order_of_the_specification():
    training = TrainingSpec(optimizer=AdamWSpec(peak_lr=0.1), num_steps=10)
    cells = [flat(MLPSpec(width=width), training, seed) for width in (8, 16) for seed in (0, 1)]
    assert find_varying(cells) == ["model.width", "seed"]


def test_a_column_with_text_and_numbers_is_text():
    assert to_columns([{"x": "auto"}, {"x": 8}, {}], ["x"]) == [{"x": "auto"}, {"x": "8"}, {"x": None}]


def test_a_cell_that_this_version_cannot_read_keeps_what_its_json_says():
    assert flatten_cell({"model": {"kind": "of_the_future", "width": 3}, "seed": 1}) == {
        "model.kind": "of_the_future", "model.width": 3, "seed": 1
    }  # fmt: skip


def test_lists_are_text_that_can_be_compared():
    model = TransformerSpec(width=8, depth=1)
    assert all(
        not isinstance(value, list | dict)
        for value in flat(model, TrainingSpec(optimizer=AdamWSpec(peak_lr=0.1), num_steps=10)).values()
    )
