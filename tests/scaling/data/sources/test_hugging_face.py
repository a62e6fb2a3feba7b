"""Hugging Face's datasets, saved and as Parquet: what is read, held out, kept and refused, all without a network."""

import io
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from scaling.data.loading import load_source
from scaling.data.sources import hugging_face
from scaling.data.sources.hugging_face import iterate_texts, load_hugging_face
from scaling.data.text.source import load_text
from scaling.specs.base import InputError
from scaling.specs.data import DataSpec, HuggingFaceDocuments, HuggingFaceSource, TextSource
from scaling.store.cache import cache_folder

NUM_TRAIN, NUM_TEST = 60, 20
COMMIT = "ab" * 20


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    datasets.disable_progress_bars()


def picture(value: int, size: tuple[int, int] = (5, 6), mode: str = "L") -> dict[str, Any]:
    content = io.BytesIO()
    Picture.new(mode, size, value).save(content, "PNG")
    return {"bytes": content.getvalue(), "path": None}


def make(count: int, first: int = 0) -> Any:
    """Returns a dataset of many kinds of columns, whose rows are told by their numbers."""
    from datasets import Array3D, ClassLabel, Dataset, Features, Image, List, Value

    index = range(first, first + count)
    columns: dict[str, tuple[Any, list[Any]]] = {
        "image": (Image(), [picture(k) for k in index]),
        "sized": (Image(), [picture(k, (5 + k % 2, 6)) for k in index]),
        "mixed": (Image(), [picture(k, mode="RGB" if k % 2 else "L") for k in index]),
        "label": (ClassLabel(names=["a", "b", "c"]), [k % 2 for k in index]),
        "unlabelled": (ClassLabel(names=["a", "b"]), [-1] * count),
        "integer": (Value("int64"), [k % 4 for k in index]),
        "number": (Value("float64"), [k / 7 for k in index]),
        "missing": (Value("float64"), [None if k == 3 else 1.0 for k in index]),
        "vector": (List(Value("float32")), [[k, 1.0, 2.0] for k in index]),
        "fixed": (List(Value("int32"), length=2), [[k, 1] for k in index]),
        "ragged": (List(Value("float32")), [[1.0] * (1 + k % 2) for k in index]),
        "array": (Array3D((2, 3, 1), "uint8"), [np.full((2, 3, 1), k, np.uint8) for k in index]),
        "text": (Value("string"), [f"text {k}" for k in index]),
    }
    features = Features({name: feature for name, (feature, _) in columns.items()})
    return Dataset.from_dict({name: values for name, (_, values) in columns.items()}, features=features)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    from datasets import DatasetDict, disable_progress_bars

    disable_progress_bars()
    path = tmp_path_factory.mktemp("saved") / "pictures"
    DatasetDict(train=make(NUM_TRAIN), test=make(NUM_TEST, 100)).save_to_disk(str(path))
    return path


def spec(folder: Path, **fields: Any) -> HuggingFaceSource:
    return HuggingFaceSource(**{"name": str(folder), **fields})


def refusal(source: HuggingFaceSource) -> str:
    with pytest.raises(InputError) as caught:
        load_hugging_face(source, 5)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_images_are_pixels_and_classes_are_those_declared(folder):
    source = load_source(DataSpec(source=spec(folder), size=10, evaluation_size=8))
    assert (source.image_shape, source.unit, source.num_classes) == ((6, 5, 1), 1 / 255, 3)
    assert (source.inputs.shape, source.inputs.dtype) == ((NUM_TRAIN, 30), np.uint8)
    assert np.array_equal(source.inputs[:][:, 7], np.arange(NUM_TRAIN))
    assert source.labels is not None
    assert source.labels.tolist() == [k % 2 for k in range(NUM_TRAIN)]
    assert source.eval_labels is not None
    assert set((source.eval_inputs[:][:, 0] - source.eval_labels) % 2) == {0}
    assert min(source.eval_inputs[:][:, 0]) >= 100
    facts = source.facts
    assert (facts["dataset"], facts["split"], facts["evaluation_split"]) == (str(folder), "train", "test")
    assert len(str(facts["fingerprint"])) == 16
    assert facts["datasets_version"]
    assert source.name == "pictures"


@pytest.mark.parametrize(
    ("inputs", "first_rows"),
    [
        ("vector", [[0, 1, 2], [1, 1, 2]]),
        ("fixed", [[0, 1], [1, 1]]),
        ("integer", [[0], [1]]),
        (("integer", "number", "fixed"), [[0, 0, 0, 1], [1, 1 / 7, 1, 1]]),
    ],
)
def test_numbers_are_one_column_or_several(folder, inputs, first_rows):
    source = load_hugging_face(spec(folder, inputs=inputs), 5)
    assert (source.scaling, source.image_shape, source.inputs.dtype) == ("standardize", None, np.float32)
    assert np.allclose(source.inputs[:2], first_rows)


def test_arrays_of_bytes_are_images(folder):
    source = load_hugging_face(spec(folder, inputs="array"), 5)
    assert (source.image_shape, source.inputs.dtype) == ((2, 3, 1), np.uint8)
    assert np.array_equal(source.inputs[:][:, 0], np.arange(NUM_TRAIN))


def test_floats_are_regressed_on_and_integers_are_classes(folder):
    source = load_hugging_face(spec(folder, inputs="vector", labels="number"), 5)
    assert (source.objective, source.num_classes) == ("regress", 1)
    assert source.labels is not None
    assert np.allclose(source.labels, np.arange(NUM_TRAIN) / 7)
    source = load_hugging_face(spec(folder, inputs="vector", labels="integer"), 5)
    assert (source.objective, source.num_classes) == ("classify", 4)


def test_images_of_varying_size_are_cropped_to_the_side(folder):
    told = refusal(spec(folder, inputs="sized"))
    assert told.endswith(
        "is [6, 6, 1], and those before [6, 5, 1]; set data.source.side to the pixels that all are resized to"
    )
    source = load_hugging_face(spec(folder, inputs="sized", side=4), 5)
    assert source.image_shape == (4, 4, 1)
    assert np.array_equal(source.inputs[:][:, 9], np.arange(NUM_TRAIN))


def test_slices_are_those_of_the_package_and_none_shares_examples(folder):
    source = load_hugging_face(spec(folder, split="train[:50%]", evaluation_split="train[50%:]"), 5)
    assert source.size == NUM_TRAIN // 2
    assert min(source.eval_inputs[:][:, 0]) >= NUM_TRAIN // 2
    both = load_hugging_face(spec(folder, split="train+test", evaluation_split=None), 7)
    assert (both.size, both.evaluation_size) == (NUM_TRAIN + NUM_TEST - 7, 7)
    told = refusal(spec(folder, split="train[:50%]", evaluation_split="train[40%:]"))
    assert "data.source.evaluation_split='train[40%:]' shares 6 examples with data.source.split='train[:50%]'" in told


def test_a_dataset_of_one_split_and_a_folder_of_parquet_are_read_alike(folder, tmp_path):
    (tmp_path / "parquet").mkdir()
    made = make(NUM_TRAIN)
    made.to_parquet(str(tmp_path / "parquet" / "train.parquet"))
    made.save_to_disk(str(tmp_path / "one"))
    sources = [
        load_hugging_face(spec(place, evaluation_split=None), 9)
        for place in (folder, tmp_path / "one", tmp_path / "parquet")
    ]
    assert len({source.sha256 for source in sources}) == 1
    assert len({source.eval_sha256 for source in sources}) == 1
    assert sources[2].facts["version"] == "0.0.0"


def test_what_was_decoded_is_kept_until_the_dataset_changes(folder, tmp_path, monkeypatch):
    first = load_hugging_face(spec(folder), 5)
    kept = sorted((cache_folder() / "hugging_face").iterdir())
    assert len(kept) == 2
    with monkeypatch.context() as patched:
        patched.setattr(hugging_face, "_write", None)
        assert load_hugging_face(spec(folder), 5).sha256 == first.sha256
        with pytest.raises(TypeError):
            load_hugging_face(spec(folder, side=3), 5)
    assert sorted((cache_folder() / "hugging_face").iterdir()) == kept  # nothing half-done is left


def test_large_inputs_stay_on_the_disk_and_are_the_same(folder, monkeypatch):
    for fields in ({}, {"evaluation_split": None}, {"inputs": "vector"}):
        small = load_hugging_face(spec(folder, **fields), 5)
        with monkeypatch.context() as patched:
            patched.setattr(hugging_face, "IN_MEMORY_BYTES", 100)
            large = load_hugging_face(spec(folder, **fields), 5)
        assert not isinstance(large.inputs, np.ndarray)
        assert (large.sha256, large.eval_sha256) == (small.sha256, small.eval_sha256)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"inputs": "imag"}, "data.source.inputs='imag' is no column of .*; did you mean 'image'"),
        ({"labels": "lable"}, "data.source.labels='lable' is no column of .*; did you mean 'label'"),
        ({"labels": "text"}, r"data.source.labels='text' is Value\('string'\) in .* and must be a class"),
        ({"labels": "array"}, "data.source.labels='array' is Array3D"),
        ({"labels": "unlabelled"}, "is -1 in example 0 of .* train and must be in 0 … 1; choose a split"),
        ({"inputs": "text"}, "data.source.inputs='text' is string .* and must be numbers or an image"),
        ({"inputs": "ragged"}, r"varies in length of .* \(1 to 2\); pad or cut"),
        ({"inputs": "missing"}, "data.source.inputs='missing' has missing values of "),
        ({"inputs": "mixed"}, r"in example 1 of .* is \[6, 5, 3\], and those before \[6, 5, 1\]; convert all"),
        ({"inputs": ("image", "number")}, "are several columns, one of them images; name the images alone"),
        ({"inputs": "vector", "side": 4}, "is no image, which data.source.side=4 is for; leave it out"),
        ({"split": "trian"}, "data.source.split='trian': .* has no split 'trian'; did you mean 'train'"),
        ({"split": "train[x:]"}, r"data.source.split='train\[x:\]' is malformed"),
        ({"split": "train[:0]"}, r"data.source.split='train\[:0\]' holds no example"),
        ({"config": "en"}, "data.source.config='en' is for datasets that are loaded by their name"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_in_one_line(folder, fields, told):
    with pytest.raises(InputError, match=told):
        raise InputError(refusal(spec(folder, **fields)))


def test_the_hub_is_not_asked_unless_that_is_asked_for(monkeypatch, tmp_path):
    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    seen = []

    def ask(*_: Any, **__: Any) -> None:
        seen.append((datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE))
        raise FileNotFoundError("nothing there")

    monkeypatch.setattr(datasets, "load_dataset", ask)
    told = refusal(HuggingFaceSource(name="somebody/something"))
    assert told.startswith("data.source.name='somebody/something' cannot be loaded (nothing there); name a folder")
    assert told.endswith("or set data.source.download=true")
    refusal(HuggingFaceSource(name="somebody/something", download=True))
    assert seen == [(True, True), (False, False)]
    assert (datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE) == (False, False)


def test_a_name_that_is_not_on_this_machine_is_refused_without_a_network():
    assert "data.source.name='somebody/something' cannot be loaded (" in refusal(
        HuggingFaceSource(name="somebody/something")
    )


@pytest.fixture
def of_the_hub(folder, tmp_path) -> str:
    """The name of a dataset that the package has prepared on this machine from commit abab…, which was main then."""
    import datasets
    from huggingface_hub import constants

    files = tmp_path / "something"
    files.mkdir()
    datasets.load_from_disk(str(folder))["train"].select_columns(["vector", "integer"]).to_parquet(
        files / "train.parquet"
    )
    prepared = Path(datasets.load_dataset(str(files))["train"].cache_files[0]["filename"]).parent
    home = Path(datasets.config.HF_DATASETS_CACHE)
    shutil.copytree(prepared, home / "somebody___something/default/0.0.0" / COMMIT)
    refs = Path(constants.HF_HUB_CACHE) / "datasets--somebody--something/refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(COMMIT)
    return "somebody/something"


@pytest.mark.parametrize("revision", [None, COMMIT, "main"])
def test_a_copy_of_the_hub_is_read_without_it_where_it_is_the_revision(of_the_hub, revision):
    asked = HuggingFaceSource(
        name=of_the_hub, inputs="vector", labels="integer", evaluation_split=None, revision=revision
    )
    assert len(load_hugging_face(asked, 10).inputs) == NUM_TRAIN - 10


def test_a_copy_of_another_commit_is_refused_and_named(of_the_hub):
    asked = HuggingFaceSource(name=of_the_hub, inputs="vector", labels="integer", revision="v2")
    told = refusal(asked)
    assert told == (
        f"data.source.revision='v2' is not known to be the copy of {of_the_hub} on this machine, which is commit "
        f"{COMMIT}; name that, or set data.source.download=true"
    )


def test_a_folder_of_files_has_no_revision(tmp_path):
    make(30).select_columns(["vector", "integer"]).to_parquet(tmp_path / "train.parquet")
    assert "revision='main' is for datasets of the Hub, and " in refusal(
        HuggingFaceSource(name=str(tmp_path), inputs="vector", labels="integer", revision="main")
    )


@pytest.mark.parametrize("splits", [{}, {"split": "train+test", "evaluation_split": None}])
def test_splits_whose_classes_have_another_order_are_refused(tmp_path, splits):
    from datasets import ClassLabel, DatasetDict

    test = make(NUM_TEST).cast_column("label", ClassLabel(names=["b", "a", "c"]))
    DatasetDict(train=make(NUM_TRAIN), test=test).save_to_disk(str(tmp_path / "saved"))
    told = refusal(spec(tmp_path / "saved", inputs="vector", **splits))
    assert "has the classes ['a', 'b', 'c'] in " in told
    assert "train and ['b', 'a', 'c'] in test; cast both to one ClassLabel" in told


def test_texts_are_documents_and_their_state_is_the_fingerprint(folder):
    documents = HuggingFaceDocuments(name=str(folder), split="train[10:]")
    found = list(iterate_texts(documents, "data.source.documents"))
    assert found[0] == (b"text 10", f"{folder} train[10:] example 0")
    assert len(found) == NUM_TRAIN - 10
    source = load_text(TextSource(documents=documents, sequence_length=8), 2)
    assert int(source.facts["documents"]) + int(source.facts["evaluation_documents"]) == NUM_TRAIN - 10
    with pytest.raises(InputError, match=r"data\.source\.documents\.field='image' is Image.* and must be text"):
        list(iterate_texts(documents.model_copy(update={"field": "image"}), "data.source.documents"))


def test_texts_are_needed_no_longer_where_their_tokens_are(folder, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(folder, own)
    documents = HuggingFaceDocuments(name=str(own), download=True)
    source = TextSource(documents=documents, sequence_length=8, prepared=str(tmp_path / "tokens"))
    before = load_text(source, 2).sha256
    shutil.rmtree(own)
    assert load_text(source, 2).sha256 == before


def test_the_package_is_missed_in_one_line_and_imported_when_it_is_needed(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert refusal(spec(folder)) == (
        "data.source.kind='hugging_face' needs scaling[hugging_face], but the package datasets is not installed; pip "
        "install 'scaling[hugging_face]'"
    )
    code = "import sys, scaling.data.loading, scaling.data.sources.hugging_face; assert 'datasets' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
