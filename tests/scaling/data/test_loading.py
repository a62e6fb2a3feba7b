"""Sources: the pool and the evaluation set never meet, and bad files are one line."""

import numpy as np
import pytest

from scaling.data.loading import check_data, load_source
from scaling.specs.base import InputError
from scaling.specs.data import DataSpec, DigitsSource, IdxSource, TableSource


def data(source, size=10, evaluation_size=10, order="independent"):
    return DataSpec(source=source, size=size, evaluation_size=evaluation_size, order=order)


def test_real_files_have_their_known_sizes(shared_data):
    fashion = load_source(data(IdxSource(folder=str(shared_data / "fashion-mnist")), evaluation_size=10_000))
    assert (fashion.size, fashion.num_classes, np.bincount(fashion.labels).tolist()) == (60_000, 10, [6000] * 10)
    letters = shared_data / "letter-recognition" / "letter-recognition.data.gz"
    letter = load_source(data(TableSource(path=str(letters), label_column=0), evaluation_size=4000))
    assert (letter.size, letter.num_classes, letter.inputs.shape[1]) == (16_000, 26, 16)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (lambda d: data(IdxSource(folder=str(d / "none"))), "does not exist; give the folder of the idx files"),
        (lambda d: data(IdxSource(folder=str(d / "empty"))), "lacks train-images-idx3-ubyte"),
        (lambda d: data(IdxSource(folder=str(d)), evaluation_size=21), "exceeds the 20 evaluation examples"),
        (lambda d: data(TableSource(path=str(d / "none.csv"))), "data.source.path="),
        (lambda d: data(TableSource(path=str(d / "ragged.csv"))), "rows have [1, 2] columns"),
        (lambda d: data(TableSource(path=str(d / "words.csv"))), "must be a number (has it a header line?)"),
        (lambda d: data(TableSource(path=str(d / "nan.csv"))), "not finite"),
        (
            lambda d: data(TableSource(path=str(d / "two.csv"), label_column=2)),
            "label_column=2 is outside the 2 columns",
        ),
        (lambda d: data(DigitsSource(), evaluation_size=1797), "leaves none of the 1797 examples"),
    ],
)
def test_bad_sources_are_one_line(idx_folder, spec, message):
    (idx_folder / "empty").mkdir()
    for name, text in {"ragged": "1,2\n3\n", "words": "x,y\n1,2\n", "nan": "nan,1\n2,1\n", "two": "1,2\n"}.items():
        (idx_folder / f"{name}.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        load_source(spec(idx_folder))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("size", "order", "message"),
    [
        (1298, "independent", "data.size=1298 exceeds the 1297 training examples of digits; choose at most 1297"),
        (9, "balanced", "data.size=9 is below the 10 classes of digits"),
        (1297, "balanced", "of the rarest class of digits; choose at most"),
    ],
)
def test_impossible_subsets_are_one_line(size, order, message):
    spec = data(DigitsSource(), size=size, evaluation_size=500, order=order)
    with pytest.raises(InputError, match=message):
        check_data(spec, load_source(spec))
