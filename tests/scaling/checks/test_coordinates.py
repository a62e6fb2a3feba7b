"""The coordinate check: μP keeps sizes over width, CompleteP over depth, the standard parametrisation over neither."""

import runpy

import numpy as np
import pytest

from analysis.checks.coordinates import fit_slopes, judge
from analysis.checks.transfer import find_optima
from scaling.checks.coordinates import measure_coordinates, watched_places
from scaling.models.registry import make_shape
from scaling.models.shape import make_layers
from scaling.specs.models import LSTMSpec, MLPSpec, ResNetSpec, TransformerSpec, ViTSpec
from scaling.specs.task import TaskShape, image_task, token_task
from scaling.specs.training import AdamSpec, SGDSpec
from tests.places import ROOT

NUMBERS, IMAGES, TEXT = TaskShape(64, None, 10), image_task(8, 10), token_task(32, 16)
ADAM, SGD = AdamSpec(peak_lr=0.01), SGDSpec(peak_lr=0.1, momentum=0.0)

MLP = MLPSpec(width=64, depth=3)
RESIDUAL = MLPSpec(width=64, depth=4, residual=True, normalization="layer")
DECODER = TransformerSpec(width=64, depth=2, head_size=16)


def check(spec, task, axis, values, optimizer, scheme, **options):
    """Returns the verdict of one parametrisation."""
    spec = spec.model_copy(update={"parametrization": scheme})
    rows = measure_coordinates(spec, task, axis, values, optimizer=optimizer, **{"batch_size": 16} | options)
    (verdict,) = judge(fit_slopes(rows))
    return verdict


def compare(spec, task, axis, values, optimizer, candidate):
    """Returns the verdicts of a parametrisation and of the standard one."""
    return [check(spec, task, axis, values, optimizer, scheme) for scheme in (candidate, "standard")]


@pytest.mark.parametrize("optimizer", [ADAM, pytest.param(SGD, marks=pytest.mark.slow)], ids=lambda spec: spec.kind)
def test_over_width_an_mlp_keeps_its_sizes_under_mup_alone(optimizer):
    mup, standard = compare(MLP, NUMBERS, "width", (64, 256), optimizer, "mup")
    assert mup["passes"], mup["worst"]
    assert not standard["passes"]
    assert standard["update"] > 0.5


@pytest.mark.slow
def test_over_width_a_decoder_keeps_its_sizes_under_mup_alone():
    shallow = DECODER.model_copy(update={"depth": 1})
    mup, standard = compare(shallow, TEXT, "width", (64, 128), ADAM, "mup")
    assert mup["passes"], mup["worst"]
    assert standard["hidden"] > 0.4


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [ADAM, SGD], ids=lambda spec: spec.kind)
def test_over_depth_a_residual_mlp_keeps_its_sizes_under_completep_alone(optimizer):
    completep, standard = compare(RESIDUAL, NUMBERS, "depth", (4, 16), optimizer, "completep")
    assert completep["passes"], completep["worst"]
    assert standard["hidden"] > 0.3
    assert standard["update"] > 0.8


@pytest.mark.slow
def test_at_the_base_all_parametrisations_measure_the_same():
    ours, theirs = (
        measure_coordinates(
            MLP.model_copy(update={"parametrization": scheme}), NUMBERS, "width", (64,), optimizer=ADAM, seeds=(0,)
        )
        for scheme in ("mup", "standard")
    )
    assert [row["l1"] for row in ours] == [row["l1"] for row in theirs]
    assert {row["path"] for row in ours} == {"hidden/first", "logits"} | {
        f"hidden/others/layer_{which}{inside}" for which in ("first", "middle", "last") for inside in ("", "/dense")
    }
    assert {row["step"] for row in ours if row["kind"] == "hidden"} == {0, 1, 2, 3, 4}
    assert {row["step"] for row in ours if row["kind"] == "update"} == {1, 2, 3, 4}


def test_places_agree_across_depths():
    labels = [
        {place.label for place in watched_places(make_layers(make_shape(spec, TEXT)), TEXT.dims, in_blocks=False)}
        for spec in (DECODER, DECODER.model_copy(update={"depth": 7}))
    ]
    assert labels[0] == labels[1] > {"blocks/block_first", "blocks/block_middle", "blocks/block_last"}


def made_up(slopes, kind="hidden", path="a", axis="width"):
    """Returns rows of l1 = n^slope, a slope for each step."""
    return [
        {"parametrization": "mup", "axis": axis, "value": n, "seed": 0, "step": step, "path": path, "kind": kind,
         "l1": float(n) ** slope}
        for step, slope in enumerate(slopes)
        for n in (64, 128, 512)
    ]  # fmt: skip


def verdict_of(hidden, update, logits):
    rows = made_up(hidden) + made_up(update, "update") + made_up(logits, "logits", "logits")
    return judge(fit_slopes([row for row in rows if row["kind"] != "update" or row["step"] > 0]))[0]


@pytest.mark.parametrize(
    ("hidden", "update", "logits", "worst"),
    [
        ((0, 0, 0), (0, 0, 0), (-0.5, -0.5, -0.4), None),
        ((0.5, 0, 0), (0, 0, 0), (0, 0, 0), None),  # nothing is asked at t = 0
        ((0, 0.1, 0.3), (0, 0, 0), (0, 0, 0), "hidden a, t = 2"),
        ((0, 0, 0), (0, 1.0, 0), (0, 0, 0), "update a, t = 1"),
        ((0, 0, 0), (0, 0, 0), (0, 0.1, 0.5), "logits logits, t = 2"),
        ((0, -0.5, -0.5), (0, 0, 0), (0, 0, 0), "hidden a, t = 1"),
        ((0, 0, 0), (0, -0.5, -0.5), (0, 0, 0), "update a, t = 2"),  # a layer that learns ever less
        ((0, 0, 0), (0, -0.5, -0.3), (0, 0, 0), None),
    ],
)
def test_a_check_fails_where_sizes_grow_or_layers_freeze(hidden, update, logits, worst):
    verdict = verdict_of(hidden, update, logits)
    assert (verdict["passes"], verdict["worst"]) == (worst is None, worst)


@pytest.mark.parametrize(
    ("path", "slope", "passes"),
    [
        ("block_first", -1.0, True),  # one block of many
        ("block_last", -1.0, False),  # all of them together do not learn
        ("block_last", -0.3, True),
        ("block_last", 0.5, False),
        ("block_first", 0.5, False),
    ],
)
def test_over_depth_the_changes_of_all_blocks_together_may_not_fall(path, slope, passes):
    rows = made_up((0, 0), path=path, axis="depth") + made_up((0, 0), "logits", "logits", "depth")
    rows += [row for row in made_up((0, slope), "update", path, "depth") if row["step"]]
    assert judge(fit_slopes(rows))[0]["passes"] == passes


def test_what_overflows_fails():
    rows = made_up((0, 0)) + made_up((0, 0), "update") + made_up((0, 0), "logits", "logits")
    rows[-1]["l1"] = np.inf
    assert not judge(fit_slopes(rows))[0]["passes"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "task", "values", "optimizer"),
    [
        (DECODER, TEXT, (64, 128, 256), SGD),
        (DECODER.model_copy(update={"num_experts": 4, "width": 32}), TEXT, (32, 64, 128), ADAM),
        (DECODER.model_copy(update={"tied": True, "positions": "learned"}), TEXT, (64, 128, 256), ADAM),
        (TransformerSpec(width=32, depth=2), TEXT, (32, 64, 128), ADAM),  # heads grow, from 16 to 64
        (LSTMSpec(width=64, depth=2), TEXT, (64, 128, 256), ADAM),
        (ViTSpec(width=64, depth=2, head_size=16), IMAGES, (64, 128, 256), ADAM),
        # Batch norm hides the sizes of what it normalises, but not those of the convolutions before it.
        (ResNetSpec(width=32, depth=1), IMAGES, (32, 64, 128), AdamSpec(peak_lr=0.002)),
    ],
    ids=["decoder sgd", "experts", "tied", "heads", "lstm", "vit", "resnet"],
)
def test_over_width_every_family_keeps_its_sizes_under_mup_alone(spec, task, values, optimizer):
    mup, standard = compare(spec, task, "width", values, optimizer, "mup")
    assert mup["passes"], mup["worst"]
    assert not standard["passes"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "task", "optimizer"),
    [
        (DECODER, TEXT, ADAM),
        (ViTSpec(width=64, depth=2, head_size=16), IMAGES, ADAM),
        (ResNetSpec(width=32, depth=2, shortcut="pad"), IMAGES, AdamSpec(peak_lr=0.002)),
        (ResNetSpec(width=32, depth=2, shortcut="projection"), IMAGES, AdamSpec(peak_lr=0.002)),
    ],
    ids=["decoder", "vit", "resnet", "resnet with projections"],
)
def test_over_depth_residual_families_keep_their_sizes_under_completep_alone(spec, task, optimizer):
    completep, standard = compare(spec, task, "depth", (2, 6), optimizer, "completep")
    assert completep["passes"], completep["worst"]
    assert not standard["passes"]


@pytest.mark.slow
def test_mup_alone_does_not_keep_sizes_over_depth():
    assert not check(DECODER, TEXT, "depth", (2, 6), ADAM, "mup")["passes"]


@pytest.mark.slow
def test_the_best_learning_rate_stays_under_mup_and_completep_alone():
    study = runpy.run_path(str(ROOT / "docs" / "learning_rate_transfer.py"))
    step = np.log2(study["LEARNING_RATES"][1] / study["LEARNING_RATES"][0])
    moved: dict[tuple[str, str], float] = {}
    for row in find_optima(study["sweep"]()):
        key = row["parametrization"], row["axis"]
        moved[key] = max(moved.get(key, 0.0), abs(row["moved"]))
    for axis, candidate in {"width": "mup", "depth": "completep"}.items():
        assert moved[candidate, axis] < 1.5 * step
        assert moved["standard", axis] > 1.5 * step
