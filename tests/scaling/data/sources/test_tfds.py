"""TFDS: datasets are read by name, exactly, lazily or at once, without TensorFlow; what is wrong is one line."""

import importlib.util
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import grain
import numpy as np
import pytest

from scaling.data.loading import load_source
from scaling.data.source import Source
from scaling.data.sources import tfds as tfds_source
from scaling.data.sources.tfds import iterate_documents, load_tfds
from scaling.specs.base import InputError
from scaling.specs.data import DataSpec, TfdsDocuments, TfdsSource
from tests.places import ROOT

HELPERS = importlib.util.spec_from_file_location("tfds_datasets", Path(__file__).with_name("tfds_datasets.py"))
helpers = importlib.util.module_from_spec(HELPERS)
HELPERS.loader.exec_module(helpers)
tfds = pytest.importorskip("tensorflow_datasets")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Datasets prepared once: digits, numbers, pictures, and old, which is prepared as tfrecord."""
    folder = tmp_path_factory.mktemp("tfds")
    helpers.prepare_digits(folder)
    helpers.prepare_numbers(folder)
    helpers.prepare_pictures(folder)
    return folder


@pytest.fixture
def lazily(monkeypatch):
    monkeypatch.setattr(tfds_source, "IN_MEMORY_BYTES", 0)


def digits(folder, **fields) -> TfdsSource:
    return TfdsSource(**{"name": "digits", "data_dir": str(folder), **fields})


def numbers(folder, **fields) -> TfdsSource:
    chosen = {"inputs": "vector", "labels": "class", "evaluation_split": None, **fields}
    return TfdsSource(name="numbers", data_dir=str(folder), **chosen)


def rows(inputs) -> set[bytes]:
    return {row.tobytes() for row in np.ascontiguousarray(inputs[:])}


def same(one: Source, other: Source) -> bool:
    return all(
        np.array_equal(getattr(one, name)[:], getattr(other, name)[:])
        for name in ("inputs", "labels", "eval_inputs", "eval_labels")
    )


def refusal(call) -> str:
    with pytest.raises(InputError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- examples -------------------------------------------------------------------------------------------------------


def test_images_and_classes_are_exactly_those_that_were_prepared(folder):
    images, labels = helpers.digits()
    source = load_tfds(digits(folder), 297)
    assert (source.size, source.evaluation_size, source.num_classes) == (1500, 297, 10)
    assert (source.image_shape, source.unit, source.inputs.dtype) == ((8, 8, 1), 1 / 255, np.uint8)
    assert rows(source.inputs) == rows(images[:1500].reshape(-1, 64))
    prepared = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    assert all(prepared[row.tobytes()] == label for row, label in zip(source.inputs, source.labels, strict=True))
    assert source.facts == {"dataset": "digits/1.0.0", "split": "train", "evaluation_split": "test"}


def test_a_dataset_is_found_through_the_registry_of_sources(folder):
    data = DataSpec(source=digits(folder), size=10, evaluation_size=100)
    assert load_source(data).evaluation_size == 100
    message = refusal(lambda: load_source(data.model_copy(update={"evaluation_size": 298})))
    assert message == ("data.evaluation_size=298 exceeds the 297 evaluation examples of digits; choose at most 297")


def test_the_folder_is_the_one_of_the_environment(folder, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    assert load_tfds(TfdsSource(name="digits"), 10).size == 1500


def test_lazy_examples_equal_those_in_memory(folder, monkeypatch):
    for spec in (digits(folder), digits(folder, evaluation_split=None, split="train[10%:]+test")):
        in_memory = load_tfds(spec, 100)
        with monkeypatch.context() as patch:
            patch.setattr(tfds_source, "IN_MEMORY_BYTES", 0)
            lazy = load_tfds(spec, 100)
        assert isinstance(in_memory.inputs, np.ndarray)
        assert isinstance(lazy.inputs, tfds_source.TfdsRows)
        assert same(in_memory, lazy)
        assert lazy.inputs.shape == in_memory.inputs.shape


def test_rows_come_in_the_order_of_their_indices(folder, lazily):
    inputs = load_tfds(digits(folder), 10).inputs
    everything = inputs[:]
    for indices in (np.array([7, 3, 3, 1499]), slice(5, 9), slice(None, None, -700), np.array([-1]), np.array([], int)):
        assert np.array_equal(inputs[indices], everything[indices])
    with pytest.raises(IndexError):
        inputs[np.array([1500])]


def test_rows_are_read_from_threads_and_after_pickling(folder, lazily):
    inputs = load_tfds(digits(folder), 10).inputs
    everything = pickle.loads(pickle.dumps(inputs))[:]  # noqa: S301
    found = {}

    def read(k):
        found[k] = inputs[np.arange(k, 1500, 8)]

    threads = [threading.Thread(target=read, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[k], everything[k::8]) for k in range(8))


def test_grain_reads_rows(folder, lazily):
    inputs = load_tfds(digits(folder), 10).inputs
    batches = grain.MapDataset.range(0, 64).batch(16).map(lambda indices: inputs[np.asarray(indices)])
    assert np.array_equal(np.concatenate(list(batches.to_iter_dataset())), inputs[:64])


def test_labels_of_lazy_examples_do_not_need_their_images(folder, lazily):
    source = load_tfds(digits(folder, inputs="damaged"), 10)
    assert source.labels.dtype == np.int32
    assert set(source.labels) == set(range(10))
    message = refusal(lambda: source.inputs[:1])
    assert message.startswith("data.source.inputs='damaged' cannot be decoded: cannot identify image file")


def test_the_evaluation_set_is_drawn_once_and_for_all(folder):
    whole = load_tfds(digits(folder), 297)
    part = load_tfds(digits(folder), 50)
    assert rows(part.eval_inputs) <= rows(whole.eval_inputs)
    assert part.eval_sha256 == load_tfds(digits(folder), 50).eval_sha256
    assert np.bincount(part.eval_labels, minlength=10).min() > 0


def test_held_out_examples_are_not_in_the_pool(folder, monkeypatch):
    for limit in (0, 2**28):
        monkeypatch.setattr(tfds_source, "IN_MEMORY_BYTES", limit)
        source = load_tfds(numbers(folder), 10)
        assert (source.size, source.evaluation_size) == (30, 10)
        assert not rows(source.inputs) & rows(source.eval_inputs)


def test_hashes_of_lazy_examples_tell_datasets_splits_and_choices_apart(folder, lazily, tmp_path):
    helpers.prepare_digits(tmp_path)
    one = load_tfds(digits(folder), 50)
    assert one.sha256 == load_tfds(digits(tmp_path), 50).sha256, "the same content, elsewhere"
    others = [
        load_tfds(digits(folder, split="train[:50%]"), 50),
        load_tfds(digits(folder, side=8), 50),
        load_tfds(digits(folder, inputs="damaged"), 50),
        load_tfds(digits(folder, evaluation_split=None), 50),
        load_tfds(digits(folder, evaluation_split=None), 60),
    ]
    hashes = [one.sha256, one.eval_sha256, *(other.sha256 for other in others)]
    assert len(set(hashes)) == len(hashes)
    assert load_tfds(digits(folder), 60).eval_sha256 != one.eval_sha256


def test_hashes_of_lazy_examples_tell_equally_labelled_ones_apart(folder, lazily):
    hashes = [load_tfds(numbers(folder, labels="always"), size).eval_sha256 for size in (10, 11)]
    halves = [load_tfds(numbers(folder, labels="always", split="train[:20]"), 10) for _ in range(2)]
    assert len({*hashes, *(half.sha256 for half in halves), *(half.eval_sha256 for half in halves)}) == 4


def test_hashes_of_small_datasets_are_of_their_content(folder):
    source = load_tfds(digits(folder), 50)
    assert source.known_hashes is None
    assert len(source.sha256) == 64


def test_a_dataset_prepared_anew_is_read_anew(tmp_path):
    examples = [{"vector": np.full(2, i, np.float32), "class": i % 2} for i in range(8)]
    features = {"vector": tfds.features.Tensor(shape=(2,), dtype=np.float32), "class": np.int64}
    spec = TfdsSource(name="again", data_dir=str(tmp_path), inputs="vector", labels="class", evaluation_split=None)
    helpers.prepare(tmp_path, "again", features, {"train": examples})
    before = load_tfds(spec, 2)
    (tmp_path / "again").rename(tmp_path / "before")
    helpers.prepare(tmp_path, "again", features, {"train": [{**item, "class": 1 - item["class"]} for item in examples]})
    after = load_tfds(spec, 2)
    assert np.array_equal(before.inputs, after.inputs)
    assert np.array_equal(before.labels, 1 - after.labels)


def test_vectors_of_numbers_are_standardised(folder):
    source = load_tfds(numbers(folder), 10)
    assert (source.inputs.shape, source.inputs.dtype) == ((30, 3), np.float32)
    assert (source.scaling, source.image_shape, source.num_classes) == ("standardize", None, 3)
    assert np.array_equal(source.inputs[:, 0] % 3, source.labels)
    assert load_tfds(numbers(folder, inputs="codes"), 10).inputs.shape == (30, 2)


def test_grids_of_numbers_are_images(folder):
    grid = load_tfds(numbers(folder, inputs="grid"), 10)
    assert (grid.image_shape, grid.inputs.dtype, grid.unit) == ((2, 3, 1), np.uint8, 1 / 255)
    volume = load_tfds(numbers(folder, inputs="volume"), 10)
    assert (volume.image_shape, volume.inputs.dtype, volume.unit) == ((2, 3, 1), np.float32, 1.0)
    assert volume.scaling == "unit"


def test_grey_images_of_a_colour_dataset_get_three_equal_channels(folder):
    source = load_tfds(numbers(folder, inputs="grey"), 10)
    assert source.image_shape == (2, 2, 3)
    assert np.array_equal(np.unique(source.inputs, axis=1), np.unique(source.inputs[:, :1], axis=1))
    assert len(rows(source.inputs)) == 30


def test_labels_that_are_numbers_are_for_regression(folder):
    source = load_tfds(numbers(folder, labels="target"), 10)
    assert (source.objective, source.num_classes, source.labels.dtype) == ("regress", 1, np.float32)
    assert np.allclose(source.labels, source.inputs[:, 0] / 10)


def test_images_of_any_size_are_resized_and_get_their_declared_channels(folder):
    source = load_tfds(TfdsSource(name="pictures", data_dir=str(folder), evaluation_split="validation", side=12), 4)
    assert (source.image_shape, source.inputs.shape) == ((12, 12, 3), (6, 12 * 12 * 3))
    colours = {tuple(colour) for colour in source.inputs.reshape(6, -1, 3).mean(1).round(-2).astype(int)}
    assert colours == {(300, 0, 0), (0, 300, 0), (200, 200, 200)}, "red, also of CMYK, green and grey"


# --- by name --------------------------------------------------------------------------------------------------------

NAMED = {
    "mnist": ((28, 28, 1), 10, None),
    "fashion_mnist": ((28, 28, 1), 10, None),
    "cifar10": ((32, 32, 3), 10, None),
    "cifar100": ((32, 32, 3), 100, None),
    "caltech101": ((16, 16, 3), 102, 16),
    "imagenet2012": ((24, 24, 3), 1000, 24),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_named_dataset_is_read_by_its_own_features_and_version(name, tmp_path):
    shape, num_classes, side = NAMED[name]
    real = tfds.builder(name, data_dir=str(tmp_path)).info
    generator = np.random.default_rng(0)
    splits = ("train", "validation" if name == "imagenet2012" else "test")
    size = (20, 30, 3) if side else shape
    images = generator.integers(0, 256, (12, *size)).astype(np.uint8).squeeze()
    others = {feature: 0 if "label" in feature else "" for feature in real.features}
    examples = [{**others, "image": helpers.encode(image), "label": i % 8} for i, image in enumerate(images)]
    helpers.prepare(
        tmp_path,
        name,
        dict(real.features),
        dict(zip(splits, (examples[:8], examples[8:]), strict=True)),
        version=str(real.version),
    )
    source = load_tfds(TfdsSource(name=name, data_dir=str(tmp_path), evaluation_split=splits[1], side=side), 4)
    assert (source.image_shape, source.num_classes, source.size) == (shape, num_classes, 8)
    assert source.facts["dataset"] == f"{name}/{real.version}"
    assert set(source.labels) == set(range(8))
    if not side:
        assert rows(source.inputs) == rows(images[:8].reshape(8, -1))


@pytest.mark.parametrize("name", ["lm1b", "c4/en"])
def test_a_named_corpus_is_read_as_documents(name, tmp_path):
    keys = ("content-length", "content-type", "text", "timestamp", "url") if name == "c4/en" else ("text",)
    base, _, config = name.partition("/")
    how = {"BUILDER_CONFIGS": [tfds.core.BuilderConfig(name=config, version="3.1.0")]} if config else {}
    texts = [f"Ünïcode text {i}" for i in range(1500)]
    features = {key: tfds.features.Text() for key in keys}
    helpers.prepare_texts(tmp_path, base, features, texts, version="3.1.0", **how)
    found = list(iterate_documents(TfdsDocuments(name=name, data_dir=str(tmp_path))))
    assert {text.decode() for text, _ in found} == set(texts)
    assert [where for _, where in found[:2]] == [f"{name} train example 0", f"{name} train example 1"]
    part = iterate_documents(TfdsDocuments(name=base, data_dir=str(tmp_path), split="train[1%:2%]"))
    assert list(part) == [(text, f"{base} train[1%:2%] example {i}") for i, (text, _) in enumerate(found[15:30])]


def test_reading_imports_no_tensorflow(folder):
    script = f"""
import sys
from scaling.specs.data import TfdsDocuments, TfdsSource
from scaling.data.sources.tfds import iterate_documents, load_tfds
assert "tensorflow_datasets" not in sys.modules
assert load_tfds(TfdsSource(name="digits", data_dir={str(folder)!r}), 10).size == 1500
assert next(iterate_documents(TfdsDocuments(name="numbers", data_dir={str(folder)!r})))[0].startswith(b"text")
try:
    load_tfds(TfdsSource(name="mnits", data_dir={str(folder)!r}), 10)
except ValueError as error:
    assert "did you mean 'mnist'?" in str(error)
assert "tensorflow" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


# --- what is wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"inputs": "nested"}, "must be an image or numbers"),
        ({"inputs": "clip"}, "must be an image or numbers"),
        ({"inputs": "deep"}, "must have 1 or 3 channels of 8 bits"),
        ({"inputs": "ragged"}, "varies in size; choose another one"),
        ({"side": 3}, "no image, which data.source.side=3 is for; leave it out"),
        ({"inputs": "gap"}, "data.source.inputs='gap' is not finite in example"),
        ({"labels": "below"}, "data.source.labels='below' is -1 in example"),
        ({"labels": "missing"}, "must be in 0 … 3; choose a split that has labels, or another feature"),
        ({"labels": "gap_target"}, "data.source.labels='gap_target' is inf in example"),
        ({"labels": "ragged"}, "must be a class, a number or a vector of floats"),
    ],
)
def test_examples_that_no_model_takes_are_one_line(folder, fields, message):
    assert message in refusal(lambda: load_tfds(numbers(folder, **fields), 10))


def test_vectors_of_floats_are_labels(folder):
    source = load_tfds(numbers(folder, labels="vector"), 10)
    assert source.labels.shape == (source.size, source.inputs.shape[1])
    assert (source.num_classes, source.objective) == (source.labels.shape[1], "regress")
    np.testing.assert_array_equal(source.labels, source.inputs[:])


def test_images_of_varying_size_need_a_side(folder):
    spec = TfdsSource(name="pictures", data_dir=str(folder), evaluation_split="validation")
    message = refusal(lambda: load_tfds(spec, 2))
    assert message == (
        "data.source.inputs='image' is Image(shape=(None, None, 3), dtype=uint8) in pictures and varies in size; "
        "set data.source.side to the pixels that all are resized to"
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"field": "txt"}, "data.source.documents.field='txt' is no feature of numbers/1.0.0; did you mean 'text'?"),
        (
            {"field": "class"},
            "data.source.documents.field='class' is Tensor(shape=(), dtype=int64) in numbers and must",
        ),
        ({"split": "test"}, "data.source.documents.split='test': numbers/1.0.0 has no split 'test'"),
        ({"name": "lm1b"}, "data.source.documents.name='lm1b' is not prepared in "),
    ],
)
def test_documents_that_are_not_there_are_one_line(folder, fields, message):
    spec = TfdsDocuments(**{"name": "numbers", "data_dir": str(folder), **fields})
    assert message in refusal(lambda: iterate_documents(spec))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[: len(content) // 2], "a record is empty"),
        (lambda content: content[:-100], "Corrupted"),
        (lambda content: b"", "should be at least 64KB"),
        (None, "No such file"),
    ],
    ids=["half", "tail", "empty", "missing"],
)
def test_a_damaged_file_is_refused_and_not_read_as_nothing(tmp_path, damage, message):
    helpers.prepare_numbers(tmp_path)
    (file, *_) = sorted(tmp_path.rglob("*train.array_record*"))
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage(file.read_bytes()))
    words = refusal(lambda: load_tfds(numbers(tmp_path), 10))
    assert message in words
    assert "prepare the dataset again" in words
