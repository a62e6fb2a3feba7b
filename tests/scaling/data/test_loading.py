"""Sources: the pool and the evaluation set never meet, and bad files are one line."""

import dataclasses

import numpy as np
import pytest

from scaling.data import loading
from scaling.data.loading import check_data, load_source
from scaling.specs.base import InputError
from scaling.specs.data import (
    ArraysSource,
    AugmentationSpec,
    CifarSource,
    DataSpec,
    DigitsSource,
    EvaluationSet,
    FileDocuments,
    HuggingFaceSource,
    IdxSource,
    ImageFolderSource,
    MarkovSource,
    MixtureDocuments,
    MixturePart,
    NpzSource,
    StdlibSource,
    TableSource,
    TeacherSource,
    TextSource,
    TfdsDocuments,
    TfdsSource,
)


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


# --- data that is not there -----------------------------------------------------------------------------------------


def mixture(path: str) -> MixtureDocuments:
    return MixtureDocuments(parts=(MixturePart(name="a", weight=1, documents=FileDocuments(path=path)),))


# Each kind of source that is read from a path, by what it is given.
FROM_FOLDERS = {
    "idx": lambda path: IdxSource(folder=path),
    "cifar": lambda path: CifarSource(path=path),
    "npz": lambda path: NpzSource(path=path),
    "table": lambda path: TableSource(path=path),
    "image_folder": lambda path: ImageFolderSource(folder=path, side=8),
    "text": lambda path: TextSource(documents=FileDocuments(path=path)),
    "evaluation_documents": lambda path: TextSource(evaluation_documents=FileDocuments(path=path)),
    "mixture": lambda path: TextSource(documents=mixture(path)),
    "tfds": lambda path: TfdsSource(name="mnist", data_dir=path),
    "tfds_text": lambda path: TextSource(documents=TfdsDocuments(name="lm1b", data_dir=path)),
    "hugging_face": lambda path: HuggingFaceSource(name=path),
    "arrays": lambda path: ArraysSource(sha256="0" * 64),
}
FROM_FILES = {
    "npz": ("a.npz", lambda path: NpzSource(path=path)),
    "csv": ("a.csv", lambda path: TableSource(path=path)),
    "gz": ("a.csv.gz", lambda path: TableSource(path=path)),
    "parquet": ("a.parquet", lambda path: TableSource(path=path)),
    "tar": ("a.tar.gz", lambda path: CifarSource(path=path)),
    "zip": ("a.zip", lambda path: ImageFolderSource(folder=path, side=8)),
    "text": ("a.txt", lambda path: TextSource(documents=FileDocuments(path=path))),
    "idx": ("train-images-idx3-ubyte", lambda path: IdxSource(folder=path.rpartition("/")[0])),
    "cifar": ("test_batch.bin", lambda path: CifarSource(path=path.rpartition("/")[0])),
    "npy": ("inputs.npy", lambda path: NpzSource(path=path.rpartition("/")[0])),
    "image": ("a/1.png", lambda path: ImageFolderSource(folder=path.rpartition("/a/")[0], side=8)),
}


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def refusal(source) -> str:
    with pytest.raises(InputError) as caught:
        load_source(data(source))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", FROM_FOLDERS)
def test_a_missing_folder_and_an_empty_one_are_one_line_that_names_them(kind, tmp_path, cache):
    (tmp_path / "empty").mkdir()
    for name in ("missing", "empty"):
        found = refusal(FROM_FOLDERS[kind](str(tmp_path / name)))
        assert (str(tmp_path / name) in found) or kind == "arrays"
        assert "; " in found  # the remedy


@pytest.mark.parametrize("kind", FROM_FILES)
def test_a_file_of_no_bytes_is_one_line(kind, tmp_path, cache):
    name, source = FROM_FILES[kind]
    path = tmp_path / "data" / name
    path.parent.mkdir(parents=True)
    path.touch()
    if kind == "npy":
        np.save(path.with_name("labels.npy"), np.zeros(3, np.int64))
    if kind == "image":
        (tmp_path / "data" / "b").mkdir()
        (tmp_path / "data" / "b" / "1.png").touch()
    refusal(source(str(path)))


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied", "/some/file"), OSError(5, "Input/output error", "/some/file")]
)
def test_what_the_file_system_refuses_is_one_line_with_the_file(monkeypatch, error):
    def refuse(spec, evaluation_size):
        raise error

    monkeypatch.setattr(loading, "_read", refuse)
    words = (
        rf"^data.source.kind='idx': /some/file cannot be read or written \({error.strerror}\); check that it is whole"
    )
    with pytest.raises(InputError, match=words):
        load_source(data(IdxSource(folder="anywhere")))
    sets = (EvaluationSet(name="ood", source=IdxSource(folder="elsewhere"), size=5),)
    with pytest.raises(InputError, match=r"^data.evaluation_sets 'ood': data.source.kind='idx': /some/file"):
        loading.load_sets(data(DigitsSource()).model_copy(update={"evaluation_sets": sets}))


@pytest.mark.parametrize(
    ("source", "field"),
    [
        (StdlibSource(num_windows=999), "num_windows"),
        (TeacherSource(num_examples=999), "num_examples"),
        (MarkovSource(num_sequences=999), "num_sequences"),
    ],
)
def test_more_examples_than_are_declared_are_refused_before_they_are_made(source, field, monkeypatch):
    monkeypatch.setattr(loading, "_load", None)
    words = rf"data.size=1000 exceeds the 999 training examples of {source.kind}; choose at most 999, .*source.{field}"
    with pytest.raises(InputError, match=words):
        load_source(data(source, size=1000))


def test_one_class_in_the_whole_source_is_refused():
    spec = data(DigitsSource())
    source = dataclasses.replace(load_source(spec), num_classes=1)
    with pytest.raises(
        InputError, match="all labels of digits are one class, which leaves nothing to tell apart; name"
    ):
        check_data(spec, source)


def test_a_crop_that_may_leave_nothing_of_an_image_is_refused():
    def cropped(pixels):
        return data(DigitsSource()).model_copy(update={"augmentation": AugmentationSpec(crop=pixels)})

    check_data(cropped(7), load_source(cropped(7)))
    with pytest.raises(InputError, match=r"crop=8 moves the 8 by 8 images of digits out of sight; choose at most 7"):
        check_data(cropped(8), load_source(cropped(8)))
