"""CIFAR's binary batches: pixels in their places, both kinds of labels, and damaged files named."""

import re
import tarfile

import numpy as np
import pytest

from scaling.data.permutation import shuffled
from scaling.data.source import SPLIT_SEED
from scaling.data.sources.cifar import load_cifar
from scaling.specs.base import InputError
from scaling.specs.data import CifarSource


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "scaling"


def refuses(message, call, *arguments, **more):
    """Checks that a call raises one line that holds the message."""
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        call(*arguments, **more)
    assert "\n" not in str(caught.value)


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
