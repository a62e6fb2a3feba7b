"""Sources of arrays: .npz, .npy and arrays from Python."""

import re

import numpy as np
import pytest

from scaling.data.permutation import shuffled
from scaling.data.source import SPLIT_SEED, SelectedRows
from scaling.data.sources.arrays import keep_arrays, load_arrays, load_npz
from scaling.specs.base import InputError
from scaling.specs.data import ArraysSource, DataSpec, NpzSource


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "scaling"


def refuses(message, call, *arguments, **more):
    """Checks that a call raises one line that holds the message."""
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        call(*arguments, **more)
    assert "\n" not in str(caught.value)


# --- arrays given from Python ---------------------------------------------------------------------------------------

NUMBERS = np.random.default_rng(1).normal(size=(40, 3))
CLASSES = np.arange(40) % 4
PIXELS = np.random.default_rng(2).integers(0, 256, (40, 5, 4, 3), np.uint8)


def test_kept_arrays_come_back_as_a_source():
    spec = keep_arrays(NUMBERS, CLASSES)
    source = load_arrays(spec, 10)
    assert (source.size, source.evaluation_size, source.num_classes, source.scaling) == (30, 10, 4, "standardize")
    held_out = np.sort(shuffled(40, SPLIT_SEED)[:10])
    np.testing.assert_array_equal(source.eval_inputs, NUMBERS[held_out].astype(np.float32))
    np.testing.assert_array_equal(source.eval_labels, CLASSES[held_out])
    assert DataSpec.model_validate_json(DataSpec(source=spec, size=5).model_dump_json()).source == spec


def test_the_name_of_kept_arrays_is_their_content_and_use():
    same = keep_arrays(NUMBERS, CLASSES)
    assert keep_arrays(NUMBERS.copy(), CLASSES.tolist()) == same
    others = [
        keep_arrays(NUMBERS + 1, CLASSES),
        keep_arrays(NUMBERS, CLASSES[::-1]),
        keep_arrays(NUMBERS, CLASSES, task="regress"),
        keep_arrays(NUMBERS.astype(np.float32), CLASSES),
        keep_arrays(NUMBERS, CLASSES, groups=CLASSES),
        keep_arrays(NUMBERS, CLASSES, evaluation_inputs=NUMBERS, evaluation_labels=CLASSES),
    ]
    assert len({same.sha256, *(other.sha256 for other in others)}) == 7


def test_kept_arrays_remember_what_they_are_for():
    tokens = np.random.default_rng(0).integers(0, 300, (40, 6))
    source = load_arrays(keep_arrays(tokens, CLASSES / 7, task="regress", vocab_size=300, groups=CLASSES), 5)
    assert (source.objective, source.vocab_size, source.num_classes) == ("regress", 300, 1)
    assert (source.inputs.dtype, source.labels.dtype) == (np.uint16, np.float32)
    assert source.scaling == "unit"
    assert len(set(source.groups)) == 3  # the fourth is held out


def test_a_given_evaluation_set_is_drawn_in_one_order():
    given = {"evaluation_inputs": PIXELS[::-1], "evaluation_labels": CLASSES[::-1]}
    source = load_arrays(keep_arrays(PIXELS, CLASSES, **given, groups=CLASSES // 2), 7)
    assert (source.size, source.image_shape, source.unit) == (40, (5, 4, 3), 1 / 255)
    np.testing.assert_array_equal(source.eval_labels, CLASSES[::-1][shuffled(40, SPLIT_SEED)[:7]])
    np.testing.assert_array_equal(source.eval_inputs, PIXELS[::-1][shuffled(40, SPLIT_SEED)[:7]].reshape(7, -1))
    assert source.groups.tolist() == (CLASSES // 2).tolist()


def test_lost_and_damaged_arrays_say_what_to_do(cache):
    refuses(
        "call keep_arrays again on this machine, or save the arrays as .npz",
        load_arrays,
        ArraysSource(sha256="0" * 64),
        5,
    )
    spec = keep_arrays(NUMBERS, CLASSES)
    path = cache / "arrays" / f"{spec.sha256}.npz"
    np.savez(path, inputs=NUMBERS + 1, labels=CLASSES, task=np.array("classify"), vocab_size=np.array(0))
    refuses("is damaged; call keep_arrays again", load_arrays, spec, 5)
    path.write_bytes(b"PK torn")
    refuses("is damaged; call keep_arrays again", load_arrays, spec, 5)
    assert load_arrays(keep_arrays(NUMBERS, CLASSES), 5).size == 35
    assert [file.name for file in (cache / "arrays").iterdir()] == [path.name]


def test_a_cache_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    refuses("cannot be written", keep_arrays, NUMBERS, CLASSES)


NOT_FINITE = np.where(np.arange(120).reshape(40, 3) == 100, np.nan, 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": NOT_FINITE}, "inputs is not finite (in float32) in row 33"),
        ({"inputs": NUMBERS * 1e300}, "inputs is not finite (in float32) in row 0"),
        ({"inputs": NUMBERS.astype(str)}, "inputs must be [n, F] numbers"),
        ({"inputs": NUMBERS[:, 0]}, "inputs is float64 of shape [40]"),
        ({"inputs": [[1], [2, 3]]}, "rows are not equally long"),
        ({"inputs": PIXELS.astype(np.int64)}, "images must be uint8 from 0 to 255, or floats"),
        ({"labels": CLASSES[:-1]}, "labels is int64 of shape [39]; give one label for each of the 40 inputs"),
        ({"labels": CLASSES - 1}, "labels holds class -1; classes must be integers from 0"),
        ({"labels": CLASSES * 1.5}, "set task='regress' for numbers"),
        ({"labels": CLASSES * 10**7}, "labels holds class 30000000, which is not below 1048576"),
        ({"labels": NOT_FINITE[:, 1], "task": "regress"}, "labels is not finite (in float32) in row 33"),
        ({"task": "rank"}, "task='rank' is unknown"),
        ({"vocab_size": 9}, "tokens must be [n, T] integers"),
        ({"inputs": np.arange(80).reshape(40, 2), "vocab_size": 77}, "token 77 in row 38, which is not from 0 to 76"),
        ({"inputs": -np.ones((40, 2), np.int8), "vocab_size": 9}, "holds token -1 in row 0"),
        ({"groups": CLASSES[:5]}, "groups must be one integer for each of the 40 inputs"),
        ({"groups": CLASSES * 0.5}, "groups must be one integer"),
        ({"evaluation_inputs": NUMBERS}, "evaluation_inputs and evaluation_labels go together"),
        ({"evaluation_inputs": NUMBERS[:, :2], "evaluation_labels": CLASSES}, "save both alike"),
        ({"evaluation_inputs": NUMBERS, "evaluation_labels": CLASSES + 1}, "holds class 4, which is above those"),
        (
            {"inputs": PIXELS, "evaluation_inputs": PIXELS / 255, "evaluation_labels": CLASSES},
            "evaluation_inputs is float64 of shape [40, 5, 4, 3] but keep_arrays: inputs is uint8",
        ),
    ],
)  # fmt: skip
def test_arrays_that_are_not_examples_are_refused(cache, arguments, message):
    refuses(message, keep_arrays, **({"inputs": NUMBERS, "labels": CLASSES} | arguments))
    assert not (cache / "arrays").exists()


# --- .npz and .npy --------------------------------------------------------------------------------------------------


def save_folder(folder, **arrays):
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return str(folder)


def save_file(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


IMAGES_AS = [
    (PIXELS, np.uint8, 1 / 255, (5, 4, 3)),
    (PIXELS[..., 0], np.uint8, 1 / 255, (5, 4, 1)),
    (PIXELS / 255, np.float32, 1.0, (5, 4, 3)),
]


@pytest.mark.parametrize(("images", "dtype", "unit", "shape"), IMAGES_AS)
def test_images_become_rows_with_their_unit(tmp_path, images, dtype, unit, shape):
    source = load_npz(NpzSource(path=save_file(tmp_path / "a.npz", inputs=images, labels=CLASSES)), 10)
    assert (source.inputs.dtype, source.unit, source.image_shape, source.scaling) == (dtype, unit, shape, "unit")
    pool = np.sort(shuffled(40, SPLIT_SEED)[10:])
    np.testing.assert_array_equal(source.inputs, images[pool].reshape(30, -1).astype(dtype))


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("inputs", [NUMBERS, PIXELS, PIXELS / 255, PIXELS[:, :, 0, 0]])
def test_a_folder_of_npy_files_is_mapped_and_equals_the_npz_file(tmp_path, inputs, given):
    arrays = {"inputs": inputs, "labels": CLASSES, "who": np.arange(40) // 2}
    names = {"groups": "who"}
    if given:
        arrays |= {"x": inputs[:20], "y": CLASSES[:20]}
        names |= {"evaluation_inputs": "x", "evaluation_labels": "y"}
    one = load_npz(NpzSource(path=save_file(tmp_path / "a.npz", **arrays), **names), 9)
    other = load_npz(NpzSource(path=save_folder(tmp_path / "a", **arrays), **names), 9)
    assert isinstance(other.inputs, SelectedRows)
    assert not other.inputs.rows.flags.owndata
    assert (one.sha256, one.eval_sha256) == (other.sha256, other.eval_sha256)
    assert one.groups.tolist() == other.groups.tolist()
    assert (one.unit, one.image_shape, one.num_classes, one.scaling) == (
        other.unit,
        other.image_shape,
        other.num_classes,
        other.scaling,
    )
    chosen = np.array([5, 0, 5])
    np.testing.assert_array_equal(other.inputs[chosen], one.inputs[chosen])
    np.testing.assert_array_equal(other.inputs[3:7], one.inputs[3:7])
    assert other.inputs.shape == one.inputs.shape
    assert other.inputs[chosen].flags.owndata


def test_tokens_take_the_smallest_type(tmp_path):
    for vocab_size, dtype in ((256, np.uint8), (257, np.uint16), (1 << 16, np.uint16), (1 << 17, np.int32)):
        tokens = np.random.default_rng(0).integers(0, vocab_size, (20, 4))
        path = save_file(tmp_path / "tokens.npz", inputs=tokens, labels=np.arange(20) % 2)
        source = load_npz(NpzSource(path=path, vocab_size=vocab_size), 5)
        assert (source.inputs.dtype, source.vocab_size) == (dtype, vocab_size)
        np.testing.assert_array_equal(source.inputs, tokens[np.sort(shuffled(20, SPLIT_SEED)[5:])])


def test_labels_are_numbers_to_regress(tmp_path):
    path = save_file(tmp_path / "a.npz", inputs=NUMBERS, labels=NUMBERS[:, 0])
    source = load_npz(NpzSource(path=path, task="regress"), 10)
    assert (source.objective, source.num_classes, source.labels.dtype) == ("regress", 1, np.float32)
    np.testing.assert_array_equal(source.labels, source.inputs[:, 0])


@pytest.mark.parametrize("save", [save_file, save_folder])
def test_labels_may_be_several_numbers(tmp_path, save):
    path = save(tmp_path / "a.npz", inputs=NUMBERS, labels=NUMBERS[:, :2], one=NUMBERS[:, :1], bad=NUMBERS[:, :0])
    source = load_npz(NpzSource(path=path, task="regress"), 10)
    assert (source.objective, source.num_classes, source.labels.dtype) == ("regress", 2, np.float32)
    np.testing.assert_array_equal(source.labels, source.inputs[:][:, :2])
    np.testing.assert_array_equal(source.eval_labels, source.eval_inputs[:, :2])
    assert load_npz(NpzSource(path=path, task="regress", labels="one"), 10).labels.ndim == 1
    for field in ({"labels": "bad"}, {"task": "classify"}):
        with pytest.raises(InputError, match="one label for each"):
            load_npz(NpzSource(**{"path": path, "task": "regress", **field}), 10)


@pytest.mark.parametrize("save", [save_file, save_folder])
def test_pickled_objects_are_not_read(tmp_path, save):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit",))

    path = save(tmp_path / "a.npz", inputs=np.array([Bomb()] * 3, object), labels=CLASSES[:3])
    refuses("array 'inputs' holds pickled Python objects", load_npz, NpzSource(path=path), 1)


@pytest.mark.parametrize("save", [save_file, save_folder])
def test_a_missing_array_is_named_with_those_that_exist(tmp_path, save):
    path = save(tmp_path / "a.npz", x=NUMBERS, label=CLASSES)
    refuses("data.source.inputs='inputs' is no array of", load_npz, NpzSource(path=path), 1)
    refuses("which holds 'label', 'x'; choose one of 'label', 'x'", load_npz, NpzSource(path=path, inputs="abc"), 1)
    refuses("which holds 'label', 'x'; did you mean 'label'?", load_npz, NpzSource(path=path, inputs="x"), 1)


def test_damaged_and_missing_files_are_named(tmp_path):
    path = save_file(tmp_path / "a.npz", inputs=NUMBERS, labels=CLASSES)
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[:-300])
    refuses("a.npz' is no whole .npz file", load_npz, NpzSource(path=path), 1)
    (tmp_path / "a.npz").write_bytes(whole[:300] + b"!" + whole[301:])
    refuses("a.npz' is damaged (Bad CRC-32", load_npz, NpzSource(path=path), 1)
    refuses("none.npz' does not exist", load_npz, NpzSource(path=str(tmp_path / "none.npz")), 1)
    folder = save_folder(tmp_path / "f", inputs=NUMBERS, labels=CLASSES)
    torn = tmp_path / "f" / "inputs.npy"
    torn.write_bytes(torn.read_bytes()[:-9])
    refuses("array 'inputs' is damaged or empty", load_npz, NpzSource(path=folder), 1)
    (tmp_path / "empty").mkdir()
    refuses("holds no arrays", load_npz, NpzSource(path=str(tmp_path / "empty")), 1)
    np.save(tmp_path / "one.npy", NUMBERS)
    refuses("one.npy' is no whole .npz file", load_npz, NpzSource(path=str(tmp_path / "one.npy")), 1)


def test_checks_reach_past_the_first_chunk_of_a_mapped_file(tmp_path, monkeypatch):
    monkeypatch.setattr("scaling.data.sources.arrays.CHUNK_ROWS", 16)
    path = save_folder(tmp_path / "f", inputs=NOT_FINITE, labels=CLASSES)
    refuses("f: data.source.inputs='inputs' is not finite (in float32) in row 33", load_npz, NpzSource(path=path), 1)


def test_mnist1d_has_its_known_size(shared_data):
    spec = NpzSource(
        path=str(shared_data / "mnist1d" / "mnist1d.npz"),
        inputs="x",
        labels="y",
        evaluation_inputs="x_test",
        evaluation_labels="y_test",
    )
    source = load_npz(spec, 1000)
    assert (source.inputs.shape, source.eval_inputs.shape, source.num_classes) == ((4000, 40), (1000, 40), 10)
    assert (source.inputs.dtype, source.scaling) == (np.float32, "standardize")
