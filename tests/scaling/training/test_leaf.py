"""Claims about leaves: whose path a step lies on, who pays for it, and what a checkpoint gives back."""

import json
import math

import pytest

from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource
from scaling.specs.models import MLPSpec
from scaling.specs.schedules import WSDSchedule
from scaling.specs.sharing import plant
from scaling.specs.training import AdamWSpec, TrainingSpec
from scaling.store.record import Evaluation
from scaling.training.leaf import Leaf, Leaves
from scaling.training.loop import plan_legs

LENGTHS = (10, 20)  # whose decays begin at steps 8 and 16


def make_cell(num_steps: int, seed: int = 0) -> Cell:
    training = TrainingSpec(optimizer=AdamWSpec(peak_lr=0.01), schedule=WSDSchedule(), num_steps=num_steps)
    data = DataSpec(source=DigitsSource(), size=100)
    return Cell(model=MLPSpec(width=8), data=data, training=training, seed=seed)


@pytest.fixture
def leaves() -> Leaves:
    """Two members of two lengths."""
    tree = plant([make_cell(length, seed) for seed in (0, 1) for length in LENGTHS])
    return Leaves(tree, plan_legs(tree.trainings))


def evaluate(leaf: Leaf, step: int) -> None:
    leaf.evaluations.append(Evaluation(step=step, data_seen=step, train_flops=1.0, loss=1.0, metrics={}))


def lengths_on(leaves: Leaves, leg: int, step: int) -> list[tuple[int, int]]:
    return [(member, leaf.training.num_steps) for member, leaf in leaves.on_path(leg, step)]


def test_a_step_of_the_trunk_is_on_the_path_of_every_leaf_and_one_after_the_fork_of_its_own(leaves):
    assert lengths_on(leaves, 0, 8) == [(0, 10), (0, 20), (1, 10), (1, 20)]
    assert lengths_on(leaves, 0, 9) == [(0, 10), (1, 10)]
    assert lengths_on(leaves, 1, 9) == [(0, 20), (1, 20)]
    assert [leaf.training.num_steps for leaf in leaves.left(1)] == [20, 20]
    assert leaves.has_branches


def test_the_trunk_is_paid_once(leaves):
    for leaf in leaves.of_leg(0):
        evaluate(leaf, 10)
    assert leaves.charge(0) == [10, 10]
    evaluate(leaves.of_leg(1)[0], 20)
    evaluate(leaves.of_leg(1)[1], 9)  # reached its target soon
    assert leaves.charge(1) == [12, 1]


def test_a_leaf_that_ends_on_the_trunk_pays_up_to_there(leaves):
    for leaf, step in zip(leaves.of_leg(0), (4, 10), strict=True):
        evaluate(leaf, step)
    leaves.charge(0)
    for leaf in leaves.of_leg(1):
        evaluate(leaf, 20)
    assert leaves.charge(1) == [16, 12]


def test_a_checkpoint_gives_everything_back(leaves):
    first = leaves.all()[0]
    evaluate(first, 4)
    first.status, first.steps_to_target, first.spikes = "ok", 4, 3
    assert first.mark_loss(4, 10.0) == {"train_loss": 2.5}
    assert first.mark_loss(6, math.inf) == {}
    for leaf in leaves.of_leg(0)[1:]:
        evaluate(leaf, 10)
    leaves.charge(0)
    facts = json.loads(json.dumps(leaves.state()))
    tree = plant([leaf.cell for leaf in leaves.all()])
    again = Leaves(tree, plan_legs(tree.trainings))
    assert again.are_in(facts)
    again.restore(facts)
    assert again.state() == leaves.state()
    assert again.all()[0].marked == (6, math.inf)
    again.restore(facts, paid_steps=8)
    evaluate(again.of_leg(1)[0], 20)
    evaluate(again.of_leg(1)[1], 20)
    assert again.charge(1) == [12, 12]


def test_leaves_that_a_checkpoint_does_not_know_are_noticed(leaves):
    tree = plant([make_cell(30)])
    assert not Leaves(tree, plan_legs(tree.trainings)).are_in(leaves.state())
