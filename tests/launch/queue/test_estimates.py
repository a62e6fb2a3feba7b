"""How long cells take, roughly: estimates grow with sizes and work, and cost nothing to make."""

import subprocess
from typing import get_args

import pytest

from launch.queue.estimates import divide_seconds, estimate_job, estimate_seconds
from scaling.specs.base import override
from scaling.specs.cell import Cell
from scaling.specs.models import (
    EstimatorSpec,
    GradientBoostingSpec,
    ModelSpec,
    ModuleSpec,
    NetworkSpec,
    RandomForestSpec,
)
from tests.launch.queue.cells import MLP, changed


def test_the_trunk_is_paid_by_the_first_leaf():
    leaves = [changed("training.schedule.kind=wsd", f"training.num_steps={steps}") for steps in (1000, 2000)]
    found = divide_seconds(leaves)
    alone = [estimate_seconds(leaf) for leaf in leaves]
    assert found[leaves[0].fingerprint()] == alone[0]
    assert found[leaves[1].fingerprint()] == pytest.approx(alone[1] * 1200 / 2000)  # the first decays from step 800
    assert estimate_job(leaves) == pytest.approx(alone[0] + 0.6 * alone[1])


@pytest.mark.parametrize("kind", get_args(get_args(ModelSpec)[0]), ids=lambda kind: kind.__name__)
def test_every_family_has_an_estimate_that_grows_with_its_size_and_its_work(kind):
    if issubclass(kind, NetworkSpec):
        own = {"code": "mine:make"} if kind is ModuleSpec else {"depth": 2}
        models = [kind(**own, width=32), kind(**own, width=64)]
        models += [] if kind is ModuleSpec else [kind(depth=4, width=64)]
        models += [kind(**own, num_params=10**8), kind(**own, num_params=10**9)]
        grown = [MLP.model_copy(update={"model": model}) for model in models]
        grown.append(override([grown[-1]], ["training.num_steps=20"])[0])
    else:
        own = {"code": "mine:Forest"} if kind is EstimatorSpec else {}
        fitted = Cell(model=kind(**own), data=MLP.data)
        grown = override([fitted], ["data.size=200"]) + override([fitted], ["data.size=2000"])
    seconds = [estimate_seconds(cell) for cell in grown]
    assert seconds == sorted(set(seconds))
    assert seconds[0] > 0


@pytest.mark.parametrize(("kind", "part"), [(RandomForestSpec, "num_trees"), (GradientBoostingSpec, "num_iterations")])
def test_ensembles_take_longer_by_their_number_of_parts(kind, part):
    ten, hundred = (Cell(model=kind(**{part: count}), data=MLP.data) for count in (10, 100))
    assert estimate_seconds(hundred) == pytest.approx(10 * estimate_seconds(ten))


def test_flops_that_are_known_replace_the_guess():
    assert estimate_seconds(MLP, train_flops=5e12) == pytest.approx(100, rel=0.01)
    guess = 6 * 3000 * 10 * 128  # an MLP uses each parameter once
    assert estimate_seconds(MLP, train_flops=guess) == estimate_seconds(MLP)


def test_estimates_come_without_jax(python):
    code = "import sys, launch.queue.queue; print('jax' in sys.modules)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_estimates_grow_with_size_and_data():
    assert estimate_seconds(changed("model.num_params=1000000")) > 10 * estimate_seconds(MLP)
    forest = MLP.model_copy(update={"model": RandomForestSpec(), "training": None})
    assert estimate_seconds(override([forest], ["data.size=1000"])[0]) > estimate_seconds(forest)
