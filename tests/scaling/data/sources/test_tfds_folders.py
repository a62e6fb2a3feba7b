"""Finding and preparing TFDS datasets by name, version, split and format; what is not there is one line."""

import importlib.util
import socket
from pathlib import Path

import numpy as np
import pytest

from scaling.data.sources.tfds import iterate_documents, load_tfds
from scaling.specs.base import InputError
from scaling.specs.data import TfdsDocuments, TfdsSource

HELPERS = importlib.util.spec_from_file_location("tfds_datasets", Path(__file__).with_name("tfds_datasets.py"))
helpers = importlib.util.module_from_spec(HELPERS)
HELPERS.loader.exec_module(helpers)
tfds = pytest.importorskip("tensorflow_datasets")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with one dataset, digits."""
    folder = tmp_path_factory.mktemp("tfds")
    helpers.prepare_digits(folder)
    return folder


def digits(folder, **fields) -> TfdsSource:
    return TfdsSource(**{"name": "digits", "data_dir": str(folder), **fields})


def numbers(folder, name="numbers") -> TfdsSource:
    return TfdsSource(name=name, data_dir=str(folder), inputs="vector", labels="class", evaluation_split=None)


def rows(inputs) -> set[bytes]:
    return {row.tobytes() for row in np.ascontiguousarray(inputs[:])}


def refusal(call) -> str:
    with pytest.raises(InputError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_newest_version_is_read_or_the_one_that_is_named(tmp_path):
    for version, many in (("1.0.0", 20), ("1.2.0", 30), ("1.10.0", 40)):
        helpers.prepare_numbers(tmp_path, many, version=version)
    for name, size in (("numbers", 39), ("numbers:1.0.0", 19), ("numbers:1.2.*", 29)):
        assert load_tfds(numbers(tmp_path, name), 1).size == size


MISSING = "set data.source.download=true, or prepare it elsewhere and set TFDS_DATA_DIR or data.source.data_dir (gs://"


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({"name": "mnist"}, ["data.source.name='mnist' is not prepared in ", MISSING]),
        ({"name": "c4/en"}, ["data.source.name='c4/en' is not prepared in ", MISSING]),
        ({"name": "digits:2.0.0"}, ["data.source.name='digits:2.0.0' is not prepared in ", "(there is 1.0.0)"]),
        ({"name": "mnits"}, ["data.source.name='mnits' is no dataset of TFDS, nor ", "did you mean 'mnist'?"]),
        ({"name": "digit"}, ["data.source.name='digit' is no dataset of TFDS, nor ", "did you mean 'digits'?"]),
        ({"name": "qqqqqqq"}, ["see https://www.tensorflow.org/datasets/catalog"]),
        ({"name": "a b"}, ["data.source.name='a b' is malformed; write name, name/config or name:1.0.0"]),
        ({"split": "tain"}, ["data.source.split='tain': digits/1.0.0 has no split 'tain'; did you mean 'train'?"]),
        ({"evaluation_split": "train+tset[:1]"}, ["no split 'tset'; did you mean 'test'?"]),
        ({"split": "train[:150%]"}, ["data.source.split='train[:150%]' cannot be read: ", "write train, train[:90%]"]),
        ({"split": "train[:9000]"}, ["incompatible with 1500 examples"]),
        ({"split": "train[:0]"}, ["data.source.split='train[:0]' holds no example of digits/1.0.0"]),
        ({"inputs": "imag"}, ["data.source.inputs='imag' is no feature of digits/1.0.0; did you mean 'image'?"]),
        ({"labels": "lable"}, ["data.source.labels='lable' is no feature of digits/1.0.0; did you mean 'label'?"]),
        ({"inputs": "name"}, ["data.source.inputs='name' is Text(", "must be an image or numbers; choose another"]),
        (
            {"labels": "name"},
            ["data.source.labels='name' is Text(", "must be a class, a number or a vector of floats; choose another"],
        ),
        ({"labels": "image"}, ["data.source.labels='image' is Image(", "must be a class, a number or a vector"]),
    ],
)
def test_what_a_dataset_does_not_have_is_one_line(folder, fields, parts):
    message = refusal(lambda: load_tfds(digits(folder, **fields), 10))
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("split", "eval_split", "overlap"),
    [
        ("train[:90%]", "train[80%:]", True),
        ("train", "train", True),
        ("test+train[:10]", "train[9:12]", True),
        ("train[:90%]", "train[90%:]", False),
        ("train[:10]", "train[-10:]", False),
    ],
)
def test_evaluation_examples_that_are_trained_on_are_refused(folder, split, eval_split, overlap):
    spec = digits(folder, split=split, evaluation_split=eval_split)
    if overlap:
        assert refusal(lambda: load_tfds(spec, 2)) == (
            f"data.source.split={split!r} and evaluation_split={eval_split!r} share examples; choose slices that "
            "do not meet, or evaluation_split=null"
        )
    else:
        source = load_tfds(spec, 2)
        assert not rows(source.inputs) & rows(source.eval_inputs)


def test_a_dataset_without_random_access_says_how_to_prepare_it(folder, tmp_path):
    helpers.prepare_numbers(tmp_path)
    for path in (tmp_path / "numbers" / "1.0.0").iterdir():
        # What TensorFlow would have to write: the same metadata with the other format.
        if path.suffix == ".json":
            path.write_text(path.read_text().replace("array_record", "tfrecord"))
        elif "array_record" in path.name:
            path.rename(path.with_name(path.name.replace("array_record", "tfrecord")))
    message = refusal(lambda: load_tfds(numbers(tmp_path), 10))
    assert "data.source.name='numbers' is prepared as tfrecord in " in message
    assert "prepare it again in another data_dir with download_and_prepare(file_format='array_record')" in message


def test_a_bucket_without_its_client_is_one_line():
    if importlib.util.find_spec("gcsfs"):
        pytest.skip("the client is here")
    message = refusal(lambda: load_tfds(TfdsSource(name="mnist", data_dir="gs://nobody/tfds"), 10))
    assert message.startswith("data.source.data_dir='gs://nobody/tfds' cannot be read: ")
    assert message.endswith("check path and credentials (gs://… needs scaling[gcs] installed)")


# --- downloading ----------------------------------------------------------------------------------------------------


@pytest.fixture
def register(monkeypatch):
    """Makes a builder known to TFDS by its name, for one test."""
    from tensorflow_datasets.core import registered

    def register(dataset, error=None, **how):
        features = {"vector": tfds.features.Tensor(shape=(2,), dtype=np.float32), "class": np.int64}
        examples = [{"vector": np.full(2, i, np.float32), "class": i % 2} for i in range(8)]
        builder = helpers.make_builder(dataset, features, {"train": examples}, **how)
        if error is not None:

            def fail(self, dl_manager):
                raise error(dl_manager) if callable(error) else error

            builder._split_generators = fail
        monkeypatch.setitem(registered._DATASET_REGISTRY, dataset, builder)

    return register


def test_what_is_missing_is_prepared_where_that_is_asked_for(register, tmp_path, capsys):
    register("small")
    spec = TfdsSource(name="small", data_dir=str(tmp_path), inputs="vector", labels="class", evaluation_split=None)
    assert "data.source.name='small' is not prepared in " in refusal(lambda: load_tfds(spec, 2))
    asked = spec.model_copy(update={"download": True})
    source = load_tfds(asked, 2)
    assert source.size == 6
    assert capsys.readouterr().out == ""
    assert np.array_equal(source.inputs, load_tfds(spec, 2).inputs), "it stays prepared"
    assert list((tmp_path / "small" / "1.0.0").glob("*.array_record*"))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError("Not enough disk space. Needed: 3 GiB\nmore"), "OSError: Not enough disk space. Needed: 3 GiB; check"),
        (ConnectionError("no route to host"), "ConnectionError: no route to host; check network and disk, or prepare"),
        (
            ModuleNotFoundError("No module named 'tensorflow'"),
            "to prepare it, not to read it, TFDS needs tensorflow; install that (pip install tensorflow), or prepare",
        ),
    ],
)
def test_a_failed_download_is_one_line(register, tmp_path, error, message):
    register("failing", error)
    spec = TfdsSource(name="failing", data_dir=str(tmp_path), download=True)
    found = refusal(lambda: load_tfds(spec, 2))
    assert found.startswith(f"data.source.download=true cannot prepare 'failing' in {tmp_path}: {message}")
    assert found.endswith("elsewhere and set TFDS_DATA_DIR or data.source.data_dir")


def test_a_download_is_announced_and_not_begun_where_its_host_has_no_address(monkeypatch, tmp_path, capsys):
    def look_up(host, port):
        raise socket.gaierror(-2, "Name or service not known")

    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", None)
    found = refusal(lambda: load_tfds(TfdsSource(name="mnist", data_dir=str(tmp_path), download=True), 2))
    assert "ConnectionError: no address is known for storage.googleapis.com (Name or service not known); check" in found
    said = f"data.source.download=true: mnist is not prepared in {tmp_path}; downloading and preparing it there\n"
    assert capsys.readouterr().err.endswith(said)


def test_what_another_process_prepares_meanwhile_is_used(register, tmp_path):
    def fail(dl_manager):
        helpers.prepare_numbers(tmp_path)
        return OSError("Directory not empty")

    register("numbers", fail)
    assert load_tfds(numbers(tmp_path).model_copy(update={"download": True}), 2).size == 38


def test_a_manual_download_names_the_folder_and_what_belongs_there(register, tmp_path):
    instructions = "manual_dir should hold\n a.tar and b.tar. You need an account."
    register("manual", lambda dl_manager: dl_manager.manual_dir, MANUAL_DOWNLOAD_INSTRUCTIONS=instructions)
    spec = TfdsSource(name="manual", data_dir=str(tmp_path), download=True)
    found = refusal(lambda: load_tfds(spec, 2))
    place = tmp_path / "downloads" / "manual"
    assert f"it is downloaded by hand into {place} (manual_dir should hold a.tar and b.tar); do that, or" in found


def test_a_dataset_whose_code_needs_tensorflow_says_so(tmp_path):
    if importlib.util.find_spec("tensorflow"):
        pytest.skip("TensorFlow is here")
    spec = TfdsDocuments(name="c4/en", data_dir=str(tmp_path), download=True)
    message = "data.source.documents.download=true cannot prepare 'c4/en' in "
    found = refusal(lambda: iterate_documents(spec))
    assert found.startswith(message)
    assert "to prepare it, not to read it, TFDS needs tensorflow" in found
