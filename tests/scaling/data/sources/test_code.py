"""Sources of the user's own code: what is taken, and what is refused in one line that names the code."""

import numpy as np
import pytest

from scaling.data.loading import load_source
from scaling.data.source import Source
from scaling.data.sources.arrays import keep_arrays, load_arrays
from scaling.data.sources.code import load_code
from scaling.specs.base import InputError
from scaling.specs.code import give_files
from scaling.specs.data import CodeSource, DataSpec

OWN = """
import numpy as np
from scaling.data.source import Source

INPUTS = np.random.default_rng(0).normal(size=(40, 3))
LABELS = np.arange(40) % 4

def pair(evaluation_size, rows=40):
    return INPUTS[:rows], LABELS[:rows]

def parts(evaluation_size):
    return {"inputs": INPUTS, "labels": INPUTS[:, 0], "evaluation_inputs": INPUTS[:9] + 1,
            "evaluation_labels": INPUTS[:9, 1], "task": "regress", "vocab_size": None}

def tokens(evaluation_size):
    return {"inputs": np.arange(40).reshape(20, 2) % 7, "labels": LABELS[:20], "vocab_size": 7}

def whole(evaluation_size, num_classes=4, cut=0):
    return Source("mine", INPUTS, LABELS[: 40 - cut], INPUTS[:5], LABELS[:5], num_classes)

def text(evaluation_size):
    return "arrays"

def misspelt(evaluation_size):
    return {"inputs": INPUTS, "label": LABELS}

def one_side(evaluation_size):
    return {"inputs": INPUTS, "labels": LABELS, "evaluation_inputs": INPUTS}

def infinite(evaluation_size):
    return np.full((4, 2), np.nan), LABELS[:4]

def ragged(evaluation_size):
    return [[1.0], [1.0, 2.0]], [0, 1]
"""


@pytest.fixture(autouse=True)
def own(tmp_path):
    (tmp_path / "own_data.py").write_text(OWN)
    give_files({"own_data": tmp_path / "own_data.py"})


def load(function, evaluation_size=10, **settings):
    return load_code(CodeSource(code=f"own_data:{function}", settings=settings), evaluation_size)


def test_arrays_of_code_are_the_source_that_the_same_arrays_are(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = DataSpec(source=CodeSource(code="own_data:pair", settings={"rows": 30}), size=5, evaluation_size=10)
    source = load_source(DataSpec.model_validate_json(data.model_dump_json()))
    inputs = np.random.default_rng(0).normal(size=(40, 3))[:30]
    kept = load_arrays(keep_arrays(inputs, np.arange(30) % 4), 10)
    assert (source.size, source.evaluation_size, source.name) == (20, 10, "own_data:pair")
    assert (source.sha256, source.eval_sha256) == (kept.sha256, kept.eval_sha256)


def test_code_may_bring_its_own_evaluation_set_task_and_vocabulary():
    parts, tokens = load("parts", 9), load("tokens")
    assert (parts.size, parts.evaluation_size, parts.objective) == (40, 9, "regress")
    assert (tokens.vocab_size, tokens.size) == (7, 10)


def test_code_may_return_a_source():
    source = load("whole")
    assert isinstance(source, Source)
    assert source.name == "mine"


@pytest.mark.parametrize(
    ("function", "settings", "message"),
    [
        ("text", {}, r"returned str; return \(inputs, labels\)"),
        ("misspelt", {}, "returned an entry 'label', which means nothing; did you mean 'labels'"),
        ("one_side", {}, "returned one of evaluation_inputs and evaluation_labels"),
        ("infinite", {}, "inputs is not finite .* in row 0"),
        ("ragged", {}, "rows are not equally long"),
        ("pair", {"row": 3}, "raised TypeError: .*unexpected keyword argument 'row'"),
        ("whole", {"num_classes": 2}, "labels are 0 to 3; classes must be from 0 to num_classes - 1 = 1"),
        ("whole", {"cut": 1}, "40 inputs and 39 labels"),
        ("pears", {}, "has no 'pears'; did you mean 'pa"),
    ],
)
def test_what_is_no_source_is_refused_in_one_line_that_names_the_code(function, settings, message):
    with pytest.raises(InputError, match=message) as caught:
        load(function, **settings)
    assert "\n" not in str(caught.value)
    assert f"own_data:{function}" in str(caught.value)
