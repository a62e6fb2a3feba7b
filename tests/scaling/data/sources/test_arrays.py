"""Sources of arrays: idx, .npz, .npy, arrays from Python, CIFAR's batches, and the archives that they come in."""

import gzip
import re
import struct
import tarfile

import numpy as np
import pytest

from scaling.data.permutation import shuffled
from scaling.data.source import SPLIT_SEED, SelectedRows
from scaling.data.sources.arrays import keep_arrays, load_arrays, load_npz
from scaling.data.sources.cifar import load_cifar
from scaling.data.sources.idx import load_idx
from scaling.specs.base import InputError
from scaling.specs.data import ArraysSource, CifarSource, DataSpec, IdxSource, NpzSource


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "scaling"


def refuses(message, call, *arguments, **more):
    """Checks that a call raises one line that holds the message."""
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        call(*arguments, **more)
    assert "\n" not in str(caught.value)


# --- idx ------------------------------------------------------------------------------------------------------------


def write_idx(path, array):
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(head + array.astype(np.uint8).tobytes())


@pytest.fixture
def idx(tmp_path):
    folder = tmp_path / "idx"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for kind, count in (("train", 50), ("t10k", 20)):
        write_idx(folder / f"{kind}-images-idx3-ubyte", generator.integers(0, 256, (count, 4, 3)))
        write_idx(folder / f"{kind}-labels-idx1-ubyte", np.arange(count) % 5)
    return folder


def test_idx_files_are_mapped_and_equal_their_gzipped_selves(idx, tmp_path):
    plain = load_idx(IdxSource(folder=str(idx)), 15)
    packed = tmp_path / "packed"
    packed.mkdir()
    for path in idx.iterdir():
        (packed / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    gzipped = load_idx(IdxSource(folder=str(packed)), 15)
    assert (plain.sha256, plain.eval_sha256) == (gzipped.sha256, gzipped.eval_sha256)
    assert not plain.inputs.flags.owndata
    assert not plain.inputs.flags.writeable
    assert type(plain.inputs) is np.ndarray
    assert plain.image_shape == (4, 3, 1)
    assert plain.eval_labels.tolist() == [i % 5 for i in shuffled(20, SPLIT_SEED)[:15]]


@pytest.mark.parametrize("packed", [False, True])
def test_a_truncated_idx_file_is_named(idx, packed):
    path = idx / "train-images-idx3-ubyte"
    content = path.read_bytes()[:-7]
    path.unlink()
    target = path.with_suffix(".gz") if packed else path
    target.write_bytes(gzip.compress(content) if packed else content)
    refuses(f"{target} holds 593 values, but its head says (50, 4, 3)", load_idx, IdxSource(folder=str(idx)), 5)


def test_a_torn_gzip_file_is_named(idx):
    path = idx / "train-images-idx3-ubyte"
    torn = gzip.compress(path.read_bytes())[:-20]
    path.unlink()
    path.with_suffix(".gz").write_bytes(torn)
    refuses("train-images-idx3-ubyte.gz' is no whole gzip file", load_idx, IdxSource(folder=str(idx)), 5)


def test_idx_files_that_do_not_belong_together_are_refused(idx):
    write_idx(idx / "t10k-labels-idx1-ubyte", np.full(20, 7))
    refuses("train labels are 0 to 4 but t10k labels 7 to 7", load_idx, IdxSource(folder=str(idx)), 5)
    write_idx(idx / "t10k-labels-idx1-ubyte", np.zeros(20))
    write_idx(idx / "t10k-images-idx3-ubyte", np.zeros((20, 3, 4)))
    refuses("train images of (4, 3) but t10k images of (3, 4)", load_idx, IdxSource(folder=str(idx)), 5)
    write_idx(idx / "train-images-idx3-ubyte", np.zeros((50, 12)))
    refuses("are not [n, H, W] images", load_idx, IdxSource(folder=str(idx)), 5)


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


# --- CIFAR ----------------------------------------------------------------------------------------------------------

BATCHES = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]


def write_batch(path, heads, images):
    """Writes images [n, 32, 32, 3] with their labels [n, 1 or 2], as the authors of CIFAR do."""
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    path.write_bytes(np.concatenate([heads, planes], axis=1).astype(np.uint8).tobytes())


def write_cifar(folder, is_100):
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)
    numbers = np.arange(24)
    heads = np.stack([numbers % 20, 99 - numbers], axis=1) if is_100 else numbers[:, None] % 10
    if is_100:
        write_batch(folder / "train.bin", heads[:20], images[:20])
        write_batch(folder / "test.bin", heads[20:], images[20:])
    else:
        for i, name in enumerate(BATCHES):
            write_batch(folder / name, heads[4 * i : 4 * i + 4], images[4 * i : 4 * i + 4])
    return images


def test_cifar_10_images_stand_pixel_by_pixel(tmp_path):
    images = write_cifar(tmp_path / "cifar-10-batches-bin", is_100=False)
    for path in (tmp_path, tmp_path / "cifar-10-batches-bin"):
        source = load_cifar(CifarSource(path=str(path)), 3)
        assert (source.num_classes, source.image_shape, source.unit) == (10, (32, 32, 3), 1 / 255)
        np.testing.assert_array_equal(source.inputs.reshape(20, 32, 32, 3), images[:20])
        assert source.labels.tolist() == [i % 10 for i in range(20)]
        chosen = shuffled(4, SPLIT_SEED)[:3]
        np.testing.assert_array_equal(source.eval_inputs.reshape(3, 32, 32, 3), images[20:][chosen])
        np.testing.assert_array_equal(source.eval_labels, (20 + chosen) % 10)


def test_cifar_100_has_fine_and_coarse_labels(tmp_path):
    images = write_cifar(tmp_path / "cifar-100-binary", is_100=True)
    fine = load_cifar(CifarSource(path=str(tmp_path)), 4)
    coarse = load_cifar(CifarSource(path=str(tmp_path), labels="coarse"), 4)
    assert (fine.num_classes, fine.labels.tolist()) == (100, [99 - i for i in range(20)])
    assert (coarse.num_classes, coarse.labels.tolist()) == (20, list(range(20)))
    np.testing.assert_array_equal(fine.inputs.reshape(20, 32, 32, 3), images[:20])


def test_cifar_is_read_from_its_archive(tmp_path):
    images = write_cifar(tmp_path / "in" / "cifar-10-batches-bin", is_100=False)
    with tarfile.open(tmp_path / "cifar.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "in" / "cifar-10-batches-bin", "cifar-10-batches-bin")
    source = load_cifar(CifarSource(path=str(tmp_path / "cifar.tar.gz")), 3)
    np.testing.assert_array_equal(source.inputs.reshape(20, 32, 32, 3), images[:20])


def test_a_truncated_batch_is_named(tmp_path):
    write_cifar(tmp_path / "c", is_100=False)
    path = tmp_path / "c" / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-1])
    refuses(f"{path} holds 12291 bytes, which is no whole number", load_cifar, CifarSource(path=str(tmp_path / "c")), 3)
    path.write_bytes(b"")
    refuses(f"{path} holds 0 bytes", load_cifar, CifarSource(path=str(tmp_path / "c")), 3)


def test_a_missing_batch_is_named(tmp_path):
    write_cifar(tmp_path / "c", is_100=False)
    (tmp_path / "c" / "data_batch_3.bin").unlink()
    refuses("lacks data_batch_3.bin", load_cifar, CifarSource(path=str(tmp_path / "c")), 3)


@pytest.mark.parametrize(
    ("is_100", "name", "byte", "value", "message"),
    [
        (False, "data_batch_2.bin", 3073, 10, "data_batch_2.bin holds the fine label 10 in record 1, which is above 9"),
        (True, "test.bin", 0, 20, "test.bin holds the coarse label 20 in record 0, which is above 19"),
        (True, "train.bin", 1, 100, "train.bin holds the fine label 100 in record 0, which is above 99"),
    ],
)
def test_a_label_out_of_range_is_named(tmp_path, is_100, name, byte, value, message):
    write_cifar(tmp_path / "c", is_100)
    content = bytearray((tmp_path / "c" / name).read_bytes())
    content[byte] = value
    (tmp_path / "c" / name).write_bytes(content)
    refuses(message, load_cifar, CifarSource(path=str(tmp_path / "c")), 3)


def test_cifar_folders_that_cannot_be_meant_are_refused(tmp_path):
    refuses("does not exist", load_cifar, CifarSource(path=str(tmp_path / "none")), 3)
    refuses("does not exist", load_cifar, CifarSource(path=str(tmp_path / "none.tar.gz")), 3)
    refuses("holds neither data_batch_1.bin (CIFAR-10) nor train.bin", load_cifar, CifarSource(path=str(tmp_path)), 3)
    write_cifar(tmp_path / "cifar-10-batches-bin", is_100=False)
    refuses("'coarse' are superclasses", load_cifar, CifarSource(path=str(tmp_path), labels="coarse"), 3)
    write_cifar(tmp_path / "cifar-100-binary", is_100=True)
    refuses("holds both CIFAR-10 and CIFAR-100", load_cifar, CifarSource(path=str(tmp_path)), 3)
