"""Sources: the pool and the evaluation set never meet, and bad files are one line."""

import gzip
import struct

import numpy as np
import pytest

from scaling.data.loading import check_data, load_source
from scaling.data.sources import stdlib
from scaling.data.sources.stdlib import CLASSES, encode, label_characters, read_sources
from scaling.specs.base import InputError
from scaling.specs.data import DataSpec, DigitsSource, IdxSource, StdlibSource, TableSource
from scaling.store.cache import load_or_make


def rows(inputs: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in np.ascontiguousarray(inputs)}


def write_idx(path, array):
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = head + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def idx_folder(tmp_path):
    generator = np.random.default_rng(0)
    for kind, count, ending in (("train", 50, ""), ("t10k", 20, ".gz")):
        write_idx(tmp_path / f"{kind}-images-idx3-ubyte{ending}", generator.integers(0, 256, (count, 4, 3)))
        write_idx(tmp_path / f"{kind}-labels-idx1-ubyte{ending}", np.arange(count) % 5)
    return tmp_path


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("".join(f"{'ab'[i % 2]},{i},{i * i}\n" for i in range(30)))
    return path


def data(source, size=10, evaluation_size=10, order="independent"):
    return DataSpec(source=source, size=size, evaluation_size=evaluation_size, order=order)


def test_digits_split_into_disjoint_pool_and_evaluation_set():
    source = load_source(data(DigitsSource(), evaluation_size=500))
    assert (source.size, len(source.eval_labels), source.num_classes) == (1297, 500, 10)
    assert not rows(source.inputs) & rows(source.eval_inputs)
    assert 0.9 <= (source.inputs * source.unit).max() <= 1.0


def test_the_evaluation_set_is_the_same_for_every_size_and_seed():
    one, other = (load_source(data(DigitsSource(), size=size, evaluation_size=500)) for size in (10, 100))
    assert one.eval_sha256 == other.eval_sha256


def test_idx_files_are_read_plain_and_gzipped(idx_folder):
    source = load_source(data(IdxSource(folder=str(idx_folder)), evaluation_size=15))
    assert (source.inputs.shape, source.inputs.dtype, source.num_classes) == ((50, 12), np.uint8, 5)
    assert source.eval_inputs.shape == (15, 12)
    assert source.labels.tolist() == [i % 5 for i in range(50)]


def test_a_table_gives_its_label_column_and_standardises_the_rest(table):
    source = load_source(data(TableSource(path=str(table), label_column=0)))
    assert (source.size, source.inputs.shape[1], source.num_classes) == (20, 2, 2)
    assert ((source.inputs[:, 0] % 2) == source.labels).all()
    assert source.scaling == "standardize"


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
        (lambda d: data(StdlibSource(num_windows=10**9)), "data.source.num_windows=1000000000 exceeds"),
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


@pytest.mark.parametrize("damage", [b"", b"hello", b"\0\0\x08\x03\0\0\0\x32"])
def test_a_damaged_idx_file_is_named(idx_folder, damage):
    (idx_folder / "train-images-idx3-ubyte").write_bytes(damage)
    with pytest.raises(InputError, match="train-images-idx3-ubyte is no idx file"):
        load_source(data(IdxSource(folder=str(idx_folder))))


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


def test_a_character_is_what_pythons_tokenizer_says():
    text = "def f():  # why\n    '''doc\n    more'''\n    return f'a{1 + 1}b' + \"#no\"\n"
    characters, classes = label_characters(text.encode())
    assert "".join(map(chr, characters)) == text
    found = {name: "".join(c for c, k in zip(text, classes, strict=True) if CLASSES[k] == name) for name in CLASSES}
    assert found["comment"] == "# why"
    assert found["string"] == "'''doc\n    more'''f'a{1 + 1}b'\"#no\""


def test_what_is_not_python_is_left_out():
    assert label_characters(b"def (:\n  '''") is None
    assert label_characters(b"x = '\xff'\n") is None


def test_tokens_fold_case_and_digits():
    codes = encode(np.array([ord(c) for c in "aA09é\t"], np.uint32))
    assert codes[0] == codes[1]
    assert codes[2] == codes[3]
    assert codes[4] == codes[5] == stdlib.OTHER
    assert codes.max() < stdlib.VOCAB_SIZE


def test_library_windows_hold_what_they_claim():
    source = load_source(data(StdlibSource(num_windows=5000), evaluation_size=2000))
    assert source.inputs.shape == (5000, 16)
    assert source.inputs.max() < stdlib.VOCAB_SIZE
    shares = np.bincount(source.labels, minlength=3) / 5000
    assert (shares > 0.05).all()
    hash_sign = stdlib.ALPHABET.index("#")
    centre = source.inputs[:, 8]
    assert (source.labels[centre == hash_sign] != 0).all()  # `#` is never code


def test_library_files_feed_one_side_only(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sources = list(read_sources())
    assert len(sources) == len(set(sources)) > 100
    seen = []
    monkeypatch.setattr(stdlib, "_draw", lambda files, *rest: seen.append(set(files)) or (np.zeros(1), np.zeros(1)))
    stdlib.draw_windows(8, 7, 1, 1, 0)
    train, held_out = seen
    assert not train & held_out
    assert 0.1 < len(held_out) / len(sources) < 0.3


def test_prepared_arrays_are_kept_and_survive_damage(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = []

    def make():
        made.append(1)
        return [np.arange(3), np.eye(2)]

    for _ in range(2):
        arrays = load_or_make("x", make)
        assert [a.tolist() for a in arrays] == [[0, 1, 2], [[1, 0], [0, 1]]]
    assert len(made) == 1
    (tmp_path / "scaling" / "x.npz").write_bytes(b"PK torn")
    load_or_make("x", make)
    assert len(made) == 2
