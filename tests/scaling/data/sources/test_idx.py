"""Idx files: mapped or gzipped, and damaged ones named."""

import gzip
import re

import numpy as np
import pytest

from scaling.data.permutation import shuffled
from scaling.data.source import SPLIT_SEED
from scaling.data.sources.idx import load_idx
from scaling.specs.base import InputError
from scaling.specs.data import IdxSource
from tests.scaling.data.written_idx import write_idx


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "scaling"


def refuses(message, call, *arguments, **more):
    """Checks that a call raises one line that holds the message."""
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        call(*arguments, **more)
    assert "\n" not in str(caught.value)


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


def test_idx_files_are_read_plain_and_gzipped(idx_folder):
    source = load_idx(IdxSource(folder=str(idx_folder)), 15)
    assert (source.inputs.shape, source.inputs.dtype, source.num_classes) == ((50, 12), np.uint8, 5)
    assert source.eval_inputs.shape == (15, 12)
    assert source.labels.tolist() == [i % 5 for i in range(50)]


@pytest.mark.parametrize("damage", [b"", b"hello", b"\0\0\x08\x03\0\0\0\x32"])
def test_a_damaged_idx_file_is_named(idx_folder, damage):
    (idx_folder / "train-images-idx3-ubyte").write_bytes(damage)
    with pytest.raises(InputError, match="train-images-idx3-ubyte is no idx file"):
        load_idx(IdxSource(folder=str(idx_folder)), 10)
