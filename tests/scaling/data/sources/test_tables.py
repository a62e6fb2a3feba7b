"""Tables: numbers stay what they were, and what inputs owe to other rows they owe to the pool alone."""

import gzip

import numpy as np
import pytest

from scaling.data.permutation import shuffled
from scaling.data.source import SPLIT_SEED
from tests.scaling.data.sources.written_tables import load, refuses, split, write


def first_loader(path, label_column, delimiter=","):
    """Returns inputs and labels as the first release read them."""
    rows = [line.split(delimiter) for line in path.read_text().splitlines() if line.strip()]
    names = [row.pop(label_column).strip() for row in rows]
    classes = {name: index for index, name in enumerate(sorted(set(names)))}
    return np.array(rows, dtype=np.float32), np.array([classes[name] for name in names])


def test_a_plain_table_is_read_as_by_the_first_release(numbers):
    inputs, labels = first_loader(numbers, -1)
    pool, held_out = split(60)
    source = load(numbers)
    assert source.inputs.dtype == np.float32
    assert source.labels.dtype == np.int32
    assert source.inputs.tobytes() == inputs[pool].tobytes()
    assert source.eval_inputs.tobytes() == inputs[held_out].tobytes()
    assert (source.labels == labels[pool]).all()
    assert (source.eval_labels == labels[held_out]).all()
    assert (source.num_classes, source.scaling, source.name) == (3, "standardize", "numbers.csv")


def test_spaces_headers_delimiters_and_positions_change_nothing(numbers, tmp_path):
    rows = [line.split(",") for line in numbers.read_text().splitlines()]
    as_it_was = load(numbers)
    spaced = write(tmp_path / "spaced.csv", [["x", "y", "z", " who "], [], *rows, [" "]], " ; ")
    spaced.write_text("\ufeff" + spaced.read_text())
    for path, fields in (
        (numbers, {"label_column": 3}),
        (spaced, {"delimiter": ";", "header": True}),
        (spaced, {"delimiter": ";", "header": True, "label_column": "who"}),
        (write(tmp_path / "tabs.tsv", rows, "\t"), {"delimiter": "\t"}),
        (write(tmp_path / "blanks.txt", rows, " "), {"delimiter": " "}),
    ):
        other = load(path, **fields)
        assert (other.sha256, other.eval_sha256) == (as_it_was.sha256, as_it_was.eval_sha256)


def test_the_statistics_are_those_of_the_pool(tmp_path):
    pool, held_out = split(40)
    values = np.where(np.isin(np.arange(40), held_out), 1e6, np.arange(40.0)).astype(object)
    words = np.where(np.isin(np.arange(40), held_out), "unseen", np.array(["p", "q"])[np.arange(40) % 2])
    values[[pool[0], pool[1], held_out[0]]] = "?"
    path = write(tmp_path / "t.csv", zip(values, words, np.arange(40) % 2, strict=True))
    source = load(path, missing="?", categorical=(1,))
    median = np.median(pool[2:])
    assert source.inputs[:2, 0].tolist() == [median, median]
    assert source.inputs[:, 1].tolist() == [1, 1, *[0] * 28]
    assert source.eval_inputs[0, :2].tolist() == [median, 1]
    assert (source.inputs[:, 2:].argmax(1) == pool % 2).all()
    assert source.inputs.shape[1] == 5  # number, whether missing, p, q, others
    assert (source.eval_inputs[:, 2:] == [0, 0, 1]).all()


def test_a_number_missing_in_the_evaluation_set_alone_has_no_indicator(tmp_path):
    pool, held_out = split(40)
    values = np.arange(40.0).astype(object)
    values[held_out[3]] = ""
    source = load(write(tmp_path / "t.csv", zip(values, np.arange(40) % 2, strict=True)), missing="?")
    assert source.inputs.shape[1] == 1
    assert source.eval_inputs[3, 0] == np.median(pool)


def test_the_most_frequent_categories_have_inputs_and_ties_go_by_the_alphabet(tmp_path):
    pool, _ = split(60, 1)
    names = np.full(60, "e")
    for name, places in {"c": pool[:30], "b": pool[30:40], "a": pool[40:50], "d": pool[50:55]}.items():
        names[places] = name
    path = write(tmp_path / "t.csv", zip(names, np.arange(60) % 2, strict=True))
    two = load(path, 1, categorical=(0,), max_categories=2)
    assert two.inputs.sum(0).tolist() == [10, 30, 19]  # a, c, others
    assert two.inputs[40:50, 0].sum() == 10  # though b came first
    every = load(path, 1, categorical=(0,))
    assert every.inputs.sum(0).tolist() == [10, 10, 30, 5, 4, 0]


def test_a_missing_category_is_a_category(tmp_path):
    names = ["a", "?", ""] * 20
    path = write(tmp_path / "t.csv", zip(names, np.arange(60) % 2, strict=True))
    source = load(path, categorical=(0,), missing="?")
    pool, _ = split(60)
    assert (source.inputs[:, 0] == (pool % 3 != 0)).all()  # '' is before 'a'
    refuses("column 0 of row 2 holds '', a missing category; set data.source.missing", path, categorical=(0,))


def test_words_are_counted_by_hash(tmp_path):
    texts = ["One two two", "three, ONE!", "two"] * 10
    path = write(tmp_path / "t.tsv", zip(["x", "y", "x"] * 10, texts, strict=True), "\t")
    source = load(path, label_column=0, delimiter="\t", text=(1,), text_features=512)
    pool, _ = split(30)
    assert source.inputs.shape == (20, 512)
    assert source.inputs.dtype == np.float32
    assert (source.inputs.sum(1) == np.array([3, 2, 1])[pool % 3]).all()
    two = source.inputs[pool % 3 == 2][0].argmax()
    assert (source.inputs[:, two] == np.array([2, 0, 1])[pool % 3]).all()


def test_groups_stay_together_and_are_no_input(tmp_path):
    who = 30 + np.arange(60) // 3
    rows = zip(who, np.arange(60), np.arange(60) % 2, strict=True)
    path = write(tmp_path / "t.csv", [("who", "x", "y"), *rows])
    source = load(path, header=True, group_column="who")
    assert source.inputs.shape[1] == 1
    assert not set(source.inputs[:, 0] // 3) & set(source.eval_inputs[:, 0] // 3)
    assert source.groups.tolist() == (source.inputs[:, 0] // 3).tolist()
    other = write(tmp_path / "o.csv", [("who", "x", "y"), *[(str(i), 0, 0) for i in (35, 77)]])
    refuses(
        "share 1 groups of data.source.group_column='who', for example '35'",
        path,
        2,
        header=True,
        group_column="who",
        evaluation_path=str(other),
    )


def test_labels_are_numbers_to_regress(tmp_path):
    path = write(tmp_path / "t.csv", [(i, i / 8) for i in range(40)])
    source = load(path, task="regress")
    assert (source.objective, source.num_classes, source.labels.dtype) == ("regress", 1, np.float32)
    assert (source.labels == source.inputs[:, 0] / 8).all()
    refuses(
        "column 1 of row 0 holds 'b', and labels to regress on must be numbers",
        write(tmp_path / "u.csv", [(1, "b")] * 20),
        task="regress",
    )


def test_labels_may_be_several_columns_of_numbers(tmp_path):
    path = write(tmp_path / "t.csv", [(i / 8, i, -i) for i in range(40)])
    source = load(path, task="regress", label_column=(2, 0))
    assert (source.num_classes, source.labels.shape[1:], source.inputs.shape[1]) == (2, (2,), 1)
    np.testing.assert_array_equal(source.labels, source.inputs * [-1, 1 / 8])
    np.testing.assert_array_equal(source.eval_labels, source.eval_inputs * [-1, 1 / 8])
    assert load(path, task="regress", label_column=(2,)).labels.ndim == 1
    refuses("name it once", path, task="regress", label_column=(0, -3))
    with pytest.raises(ValueError, match="several columns, which is for numbers"):
        load(path, label_column=(0, 1))


def test_an_evaluation_table_is_drawn_in_one_order(numbers, tmp_path):
    rows = [line.split(",") for line in numbers.read_text().splitlines()]
    other = write(tmp_path / "other.csv", rows[:25])
    source = load(numbers, evaluation_path=str(other))
    inputs, labels = first_loader(numbers, -1)
    chosen = shuffled(25, SPLIT_SEED)[:10]
    np.testing.assert_array_equal(source.inputs, inputs)
    np.testing.assert_array_equal(source.eval_inputs, inputs[chosen])
    np.testing.assert_array_equal(source.eval_labels, labels[chosen])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(1, 2, 3, "zz")] * 20, "holds 'zz', which no row of data.source.path has as label ('a', 'b', 'c')"),
        ([(1, 2, 3, "a.")] * 20, "has as label ('a', 'b', 'c'); remove the dot"),
        ([(1, 2, "a")] * 20, "has 3 columns but data.source.path 4"),
        ([(1, "x", 3, "a")] * 20, "column 1 of row 0 holds 'x', and every column but the label must be a number"),
        ([], "holds no rows"),
    ],
)  # fmt: skip
def test_an_evaluation_table_that_does_not_fit_is_refused(numbers, tmp_path, rows, message):
    refuses(message, numbers, evaluation_path=str(write(tmp_path / "e.csv", rows)))
    refuses("data.source.evaluation_path=", numbers, evaluation_path=str(tmp_path / "e.csv"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"label_column": 4}, "data.source.label_column=4 is outside the 4 columns of"),
        ({"label_column": -5}, "choose 0 to 3"),
        ({"label_column": "why"}, "data.source.label_column='why' is no column of"),
        ({"label_column": "Who"}, "did you mean 'who'?"),
        ({"ignore": ("q",)}, "choose one of 'who', 'x', 'y', 'z'"),
        ({"header": False, "label_column": "who"}, "is a name, but"),
        ({"ignore": (3,)}, "column 'who' is data.source.label_column already"),
        ({"ignore": ("x",), "categorical": ("y", 0)}, "column 'x' is data.source.ignore already"),
        ({"ignore": (0, 1, 2)}, "has no column left as input"),
        ({"label_column": "x"}, "column 'who' of row 0 holds 'c', and every column but the label must be a number"),
        ({"header": False}, "column 0 of row 0 holds 'x', and every column but the label must"),
    ],
)  # fmt: skip
def test_columns_that_cannot_be_meant_are_named(numbers, fields, message):
    numbers.write_text("x,y,z,who\n" + numbers.read_text())
    refuses(message, numbers, **({"header": True} | fields))


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("".join(f"{'ab'[i % 2]},{i},{i * i}\n" for i in range(30)))
    return path


def test_a_table_gives_its_label_column_and_standardises_the_rest(table):
    source = load(table, label_column=0)
    assert (source.size, source.inputs.shape[1], source.num_classes) == (20, 2, 2)
    assert ((source.inputs[:, 0] % 2) == source.labels).all()
    assert source.scaling == "standardize"


# --- real tables ----------------------------------------------------------------------------------------------------


def test_california_housing_is_regressed_on(shared_data):
    source = load(
        shared_data / "california-housing" / "housing.csv.gz",
        5000,
        header=True,
        label_column="median_house_value",
        task="regress",
        categorical=("ocean_proximity",),
        missing="",
    )
    assert source.inputs.shape == (15_640, 8 + 1 + 6)  # total_bedrooms has missing ones; five places and others
    assert 100 < source.inputs[:, 5].sum() < 207
    assert source.inputs[:, 9:].sum(0).tolist()[-1] == 0
    assert 14_999 <= source.labels.min() < source.labels.max() == 500_001


ADULT = {"categorical": (1, 3, 5, 6, 7, 8, 9, 13), "missing": "?"}


def test_adult_is_read_and_its_test_file_must_be_mended(shared_data, tmp_path):
    path = shared_data / "adult" / "adult.data.gz"
    test = shared_data / "adult" / "adult.test.gz"
    source = load(path, 5000, **ADULT)
    assert (source.size, source.evaluation_size, source.num_classes) == (27_561, 5000, 2)
    assert source.inputs.shape[1] == 6 + 9 + 8 + 16 + 7 + 15 + 6 + 5 + 2 + 42
    refuses("row 0 has 1: '|1x3 Cross validator'", path, evaluation_path=str(test), **ADULT)
    lines = gzip.decompress(test.read_bytes()).decode().splitlines()[1:]
    mended = tmp_path / "adult.test"
    mended.write_text("\n".join(lines))
    refuses("holds '<=50K.', '>50K.', which no row", path, evaluation_path=str(mended), **ADULT)
    mended.write_text("\n".join(line.removesuffix(".") for line in lines))
    whole = load(path, 16_281, evaluation_path=str(mended), **ADULT)
    assert (whole.size, whole.evaluation_size) == (32_561, 16_281)
    assert np.bincount(whole.eval_labels).tolist() == [12_435, 3_846]


def test_sms_spam_is_words(shared_data):
    path = shared_data / "sms-spam" / "SMSSpamCollection.gz"
    source = load(path, 574, label_column=0, delimiter="\t", text=(1,), text_features=256)
    assert source.inputs.shape == (5000, 256)
    assert np.bincount(np.concatenate([source.labels, source.eval_labels])).tolist() == [4827, 747]


def test_letter_recognition_is_what_it_was(shared_data, tmp_path):
    path = shared_data / "letter-recognition" / "letter-recognition.data.gz"
    plain = tmp_path / "letters"
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    inputs, labels = first_loader(plain, 0)
    pool, _ = split(20_000, 4000)
    source = load(path, 4000, label_column=0)
    assert source.inputs.tobytes() == inputs[pool].tobytes()
    assert (source.labels == labels[pool]).all()


def test_labels_that_are_no_classes_are_refused(tmp_path):
    path = write(tmp_path / "numbers.csv", [(i, i / 7) for i in range(60)])
    refuses("the label, column 1, has 60 different values in 60 rows, which are no classes to learn; set data.", path)
    assert load(path, task="regress").size + 10 >= 50
    halves = write(tmp_path / "halves.csv", [(i, i // 2) for i in range(60)])
    assert load(halves).num_classes == 30
