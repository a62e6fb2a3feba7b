"""Claims about metrics as data: which task has which, which way is better, and what is refused."""

import pytest

from scaling.specs.base import InputError
from scaling.specs.metrics import (
    BUILT_IN,
    MetricFacts,
    check_metrics,
    check_objective,
    facts_of,
    is_lower_better,
    suggest_metric,
    task_columns,
)
from scaling.specs.task import TaskShape, token_task

TWO = TaskShape(num_features=4, vocab_size=None, num_classes=2)
NUMBERS = TaskShape(num_features=4, vocab_size=None, num_classes=3, objective="regress")


def test_every_record_of_a_task_has_its_own_metrics_and_others_where_they_are_asked_for():
    assert task_columns((), TWO, is_text=False) == ("loss", "error", "accuracy")
    assert task_columns(("auc",), TWO, is_text=False) == ("loss", "error", "accuracy", "auc")
    assert task_columns((), NUMBERS, is_text=False) == ("loss", "r2", "rmse")
    assert task_columns((), token_task(9, 4), is_text=True)[-2:] == ("perplexity", "bits_per_byte")
    assert "bits_per_byte" not in task_columns((), token_task(9, 4, "masked"), is_text=True)


@pytest.mark.parametrize(
    ("metric", "task", "needs"),
    [
        ("auc", NUMBERS, "two classes"),
        ("auc", token_task(2, 4), "two classes"),
        ("r2", TWO, "numbers"),
        ("top5_error", TWO, "more than five classes"),
        ("bits_per_byte", token_task(9, 4), "text"),
        ("perplexity", TWO, "tokens"),
        ("error", NUMBERS, "classes"),
    ],
)
def test_a_metric_of_another_task_is_refused_with_those_of_this_one(metric, task, needs):
    with pytest.raises(InputError, match=rf"data.metrics='{metric}' is for {needs}, which here does not have; .*loss"):
        check_metrics((metric,), task, is_text=False, where="here")


def test_the_direction_of_a_column_is_known_by_its_last_words():
    assert [name for name in BUILT_IN if not is_lower_better(name)] == ["accuracy", "top5_accuracy", "auc", "r2"]
    assert not is_lower_better("ema_ood_accuracy")
    assert facts_of("ood_top5_error").name == "top5_error"
    mine = MetricFacts(name="skill", direction="higher")
    assert (is_lower_better("ood_skill"), is_lower_better("ood_skill", [mine])) == (True, False)


def test_objectives_on_logarithms_refuse_what_may_be_negative():
    with pytest.raises(InputError, match=r"metric='ood_r2' may be 0 or below, but fit.objective='huber'"):
        check_objective("ood_r2", "huber", "")
    check_objective("r2", "mse", "")
    check_objective("accuracy", "huber", "")


def test_a_metric_that_was_not_asked_for_is_to_be_added():
    assert suggest_metric("auc", ["loss"]).startswith("add it to data.metrics, or ")
    assert suggest_metric("los", ["loss"]) == "did you mean 'loss'?"
