"""Claims about metrics: each is its formula, in batches as in one, and functions that do not fit are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, top_k_accuracy_score

from scaling.learning.metrics import ASKED, Metric, check_functions, conclude, measure, resolve_metrics
from scaling.specs.base import InputError
from scaling.specs.code import give_files
from scaling.specs.metrics import BUILT_IN, is_reference
from scaling.specs.task import TaskShape, token_task

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(40, 8)).astype(np.float32)
CLASSES = RANDOM.integers(0, 8, 40).astype(np.int32)


def value(metric: Metric, outputs, targets, weights=None, parts: int = 3) -> float:
    """Returns a metric of examples that come in several batches, as a compiled evaluation has them."""
    weights = np.ones(len(targets), np.float32) if weights is None else weights
    run = jax.jit(lambda *batch: measure([metric], *batch))
    batches = [
        run(*each) for each in zip(*(np.array_split(x, parts) for x in (outputs, targets, weights)), strict=True)
    ]
    return conclude([metric], batches)[metric.name]


def test_top5_is_that_of_scikit_learn():
    expected = top_k_accuracy_score(CLASSES, LOGITS, k=5, labels=range(8))
    assert value(ASKED["top5_accuracy"], LOGITS, CLASSES) == pytest.approx(expected)
    assert value(ASKED["top5_error"], LOGITS, CLASSES) == pytest.approx(1 - expected)


def test_auc_is_that_of_scikit_learn_with_ties_and_weights():
    logits, classes = LOGITS[:, :2].round(1), CLASSES % 2
    scores = logits[:, 1] - logits[:, 0]
    assert value(ASKED["auc"], logits, classes) == pytest.approx(roc_auc_score(classes, scores))
    weights = (np.arange(40) % 3).astype(np.float32)
    expected = roc_auc_score(classes, scores, sample_weight=weights)
    assert value(ASKED["auc"], logits, classes, weights) == pytest.approx(expected)
    one_class = measure([ASKED["auc"]], logits, np.zeros(40, np.int32), np.ones(40, np.float32))
    assert conclude([ASKED["auc"]], [one_class]) == {}  # nothing to rank


def test_what_does_not_count_is_left_out_of_means_and_of_reductions():
    outputs = np.asarray([1.0, np.inf, 5.0], np.float32)
    weights = np.asarray([1.0, 0.0, 3.0], np.float32)
    mean = Metric("mean", lambda outputs, targets: outputs)
    largest = Metric("largest", lambda outputs, targets: outputs, reduce=lambda values, weights: values.max())
    assert value(mean, outputs, outputs, weights, parts=1) == 4.0
    assert value(largest, outputs, outputs, weights) == 5.0


def test_values_may_be_one_a_vector_or_one_a_number_and_one_a_token():
    numbers, tokens = np.arange(6, dtype=np.float32).reshape(3, 2), np.arange(6).reshape(3, 2)
    each = Metric("each", lambda outputs, targets: outputs)
    together = Metric("together", lambda outputs, targets: outputs.sum(axis=-1))
    assert value(each, numbers, numbers) == 2.5
    assert value(together, numbers, numbers) == 5.0
    weights = np.asarray([[0, 1], [0, 0], [0, 1]], np.float32)
    count = Metric("count", lambda outputs, targets: targets, reduce=lambda values, weights: values.sum())
    assert value(count, tokens, tokens, weights) == 1 + 5


def test_names_become_metrics_and_those_of_every_record_none(tmp_path):
    (tmp_path / "mine_metrics.py").write_text(
        "from scaling.learning.metrics import Metric\n"
        "same = Metric('brier', lambda outputs, targets: outputs[:, 0])\n"
        "taken = Metric('num_params', same.function)\n"
        "odd = Metric('a b', same.function)\n"
        "way = Metric('way', same.function, direction='up')\n"
        "text = 'brier'\n"
    )
    give_files({"mine_metrics": tmp_path / "mine_metrics.py"})
    found = resolve_metrics(("error", "auc", "mine_metrics:same"))
    assert [metric.name for metric in found] == ["auc", "brier"]
    assert resolve_metrics(("mine_metrics:same",)) == found[1:]  # equal, so that programs are shared
    for name, message in {
        "taken": "is called 'num_params', which is another column",
        "odd": "the name must be letters",
        "way": "the direction 'lower' or 'higher'",
        "text": "is str; name a",
        "gone": "has no 'gone'",
    }.items():
        with pytest.raises(InputError, match=message):
            resolve_metrics((f"mine_metrics:{name}",))


def test_facts_of_what_is_asked_for_stand_once():
    assert {name for name, metric in BUILT_IN.items() if metric.is_asked} == set(ASKED)
    for name, metric in ASKED.items():
        assert metric.facts.direction == BUILT_IN[name].direction
        assert not is_reference(name)


TASKS = {
    "classes": TaskShape(num_features=4, vocab_size=None, num_classes=3),
    "numbers": TaskShape(num_features=4, vocab_size=None, num_classes=3, objective="regress"),
    "tokens": token_task(9, 5),
}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_function_that_does_not_fit_the_outputs_is_refused_before_training(task):
    fitting = Metric("fits", lambda outputs, targets: targets * 0.5)
    several = Metric("several", lambda outputs, targets: jnp.stack([targets] * 2, -1), reduce=lambda v, w: 0.0)
    check_functions([fitting, several], task)
    for metric, message in {
        Metric("total", lambda outputs, targets: targets.sum()): "return one a prediction",
        Metric("alone", lambda outputs, targets: targets.sum(), reduce=lambda v, w: 0.0): "begin as the targets'",
        Metric("none", lambda outputs, targets: None): "shape None",
        Metric("fails", lambda outputs, targets: outputs @ jnp.ones((77, 1))): "mend its function",
    }.items():
        with pytest.raises(InputError, match=f"data.metrics: '{metric.name}'.*{message}"):
            check_functions([metric], task)
