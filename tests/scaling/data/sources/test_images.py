"""Folders of images: classes by name, squares by resizing and cropping, and the same pixels lazily or at once."""

import re
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from scaling.data.permutation import shuffled
from scaling.data.source import SPLIT_SEED
from scaling.data.sources import images
from scaling.data.sources.images import ImageFiles, fit_square, load_image_folder
from scaling.specs.base import InputError
from scaling.specs.data import ImageFolderSource


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def refuses(message, folder, evaluation_size=4, **fields):
    """Checks that a folder is refused by one line that holds the message."""
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        load(folder, evaluation_size, **fields)
    assert "\n" not in str(caught.value)


def load(folder, evaluation_size=4, **fields):
    return load_image_folder(ImageFolderSource(folder=str(folder), **({"side": 8} | fields)), evaluation_size)


def write_images(folder, classes=("cat", "ant"), count=6, size=(8, 8)):
    """Writes PNG images and returns their pixels by path, in the order of classes and names."""
    generator = np.random.default_rng(len(classes) + count)
    pixels = {}
    for name in sorted(classes):
        (folder / name / "deep").mkdir(parents=True)
        for i in range(count):
            path = f"{name}/deep/{i}.png" if i == 0 else f"{name}/{i}.png"
            pixels[path] = generator.integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(pixels[path]).save(folder / path)
    return dict(sorted(pixels.items()))


@pytest.fixture
def folder(tmp_path):
    write_images(tmp_path / "pictures")
    return tmp_path / "pictures"


def test_class_folders_are_classes_in_alphabetical_order(tmp_path):
    pixels = list(write_images(tmp_path / "pictures").values())
    source = load(tmp_path / "pictures")
    order = shuffled(12, SPLIT_SEED)
    pool, held_out = np.sort(order[4:]), np.sort(order[:4])
    assert (source.name, source.num_classes, source.image_shape, source.unit) == ("pictures", 2, (8, 8, 3), 1 / 255)
    assert (source.labels == (pool >= 6)).all()
    assert (source.eval_labels == (held_out >= 6)).all()
    np.testing.assert_array_equal(source.inputs, [pixels[i].reshape(-1) for i in pool])
    np.testing.assert_array_equal(source.eval_inputs, [pixels[i].reshape(-1) for i in held_out])
    assert source.labels.dtype == np.int32


def test_images_read_on_demand_are_those_read_at_once(folder, monkeypatch):
    at_once = load(folder)
    monkeypatch.setattr(images, "IN_MEMORY_BYTES", 8 * 192 - 1)
    lazy = load(folder)
    assert isinstance(at_once.inputs, np.ndarray)
    assert isinstance(lazy.inputs, ImageFiles)
    assert isinstance(lazy.eval_inputs, np.ndarray)  # four images fit
    assert (lazy.inputs.shape, lazy.inputs.dtype, len(lazy.inputs)) == ((8, 192), np.uint8, 8)
    for chosen in (slice(None), slice(2, 5), np.array([7, 0, 7]), np.array([], np.int64)):
        np.testing.assert_array_equal(lazy.inputs[chosen], at_once.inputs[chosen])
    assert lazy.eval_sha256 == at_once.eval_sha256


def test_the_hash_of_images_on_demand_sees_names_and_sizes(folder, monkeypatch):
    monkeypatch.setattr(images, "IN_MEMORY_BYTES", 0)
    before = load(folder)
    assert load(folder).sha256 == before.sha256
    assert load(folder, side=9).sha256 != before.sha256
    assert load(folder, channels=1).sha256 != before.sha256
    path = folder / before.inputs.paths[0]
    path.write_bytes(path.read_bytes() + b"!")
    changed = load(folder)
    assert changed.sha256 != before.sha256
    assert changed.eval_sha256 == before.eval_sha256


def test_a_given_evaluation_folder_is_drawn_in_one_order(folder, tmp_path):
    pixels = list(write_images(tmp_path / "test", count=5).values())
    source = load(folder, 7, evaluation_folder=str(tmp_path / "test"))
    chosen = shuffled(10, SPLIT_SEED)[:7]
    assert source.size == 12
    np.testing.assert_array_equal(source.eval_inputs, [pixels[i].reshape(-1) for i in chosen])
    assert (source.eval_labels == (chosen >= 5)).all()


def test_evaluation_classes_must_be_those_of_the_pool(folder, tmp_path):
    write_images(tmp_path / "test", classes=("ant", "bee"))
    refuses("only one of them has 'bee', 'cat'", folder, evaluation_folder=str(tmp_path / "test"))


@pytest.mark.parametrize(("size", "side"), [((4, 12), 4), ((12, 4), 4), ((13, 4), 4), ((8, 24), 4), ((3, 5), 6)])
def test_the_middle_square_is_kept(size, side):
    longer = max(size)
    ramp = np.arange(longer, dtype=np.uint8) * 5
    array = np.broadcast_to(ramp if size[1] == longer else ramp[:, None], size).copy()
    square = fit_square(array, side, 1)
    assert (square.shape, square.dtype) == ((side, side, 1), np.uint8)
    along = square[:, :, 0].astype(float).mean(axis=0 if size[1] == longer else 1)
    assert abs(along.mean() - ramp.mean()) <= 5 / 2 + 0.5  # half a pixel, where the crop cannot be in the very middle
    assert along[0] < along[-1]


def test_squares_have_the_channels_asked_for():
    colour = np.random.default_rng(0).integers(0, 256, (5, 5, 3), np.uint8)
    grey = np.asarray(Image.fromarray(colour).convert("L"))
    np.testing.assert_array_equal(fit_square(colour, 5, 3), colour)
    np.testing.assert_array_equal(fit_square(Image.fromarray(colour), 5, 1), grey[..., None])
    np.testing.assert_array_equal(fit_square(grey, 5, 3), np.repeat(grey[..., None], 3, axis=2))
    np.testing.assert_array_equal(fit_square(grey[..., None], 5, 1), grey[..., None])
    opaque = np.dstack([colour, np.full((5, 5), 9, np.uint8)])
    np.testing.assert_array_equal(fit_square(opaque, 5, 3), colour)
    palette = Image.fromarray(colour).convert("P")
    palette.info["transparency"] = bytes(range(200))
    assert fit_square(palette, 5, 3).shape == (5, 5, 3)


def test_pixels_of_more_than_eight_bits_are_refused(folder):
    with pytest.raises(ValueError, match="pixels are uint16 and not uint8"):
        fit_square(np.zeros((4, 4), np.uint16), 4, 1)
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(folder / "ant" / "1.png")
    refuses("pixels have more than eight bits", folder)


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_an_image_that_cannot_be_decoded_is_named(folder, content, monkeypatch):
    path = folder / "cat" / "3.png"
    path.write_bytes(path.read_bytes()[:90] if content is None else content)
    refuses(f"{path} cannot be decoded", folder)
    monkeypatch.setattr(images, "IN_MEMORY_BYTES", 0)
    source = load(folder)
    with pytest.raises(InputError, match="cannot be decoded"):
        np.concatenate([source.inputs[:], source.eval_inputs[:]])


def test_other_files_are_passed_over_and_counted(folder):
    before = load(folder)
    (folder / "ant" / "boxes.txt").write_text("1 2 3 4")
    (folder / "ant" / ".DS_Store").write_text("")
    (folder / "README").write_text("")
    (folder / ".git").mkdir()
    after = load(folder)
    assert (before.facts, after.facts) == ({}, {"files_passed_over": 1})
    assert after.sha256 == before.sha256


def test_folders_that_hold_no_classes_are_refused(folder, tmp_path):
    refuses("none' does not exist", tmp_path / "none")
    refuses("none.zip' does not exist", tmp_path / "none.zip")
    refuses("holds 0 class folders", folder / "cat" / "deep")
    refuses("holds 1 class folders ('pictures')", tmp_path)
    refuses("data.source.evaluation_folder=", folder, evaluation_folder=str(tmp_path / "none"))
    (folder / "bee").mkdir()
    refuses("the class folder 'bee' holds no images", folder)


@pytest.mark.parametrize("top", ["", "pictures/"])
@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_an_archive_gives_what_its_folder_gives(folder, tmp_path, top, suffix):
    path = tmp_path / f"packed{suffix}"
    files = {f"{top}{file.relative_to(folder)}": file for file in sorted(folder.rglob("*.png"))}
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("__MACOSX/x", "")
            for name, file in files.items():
                archive.write(file, name)
    else:
        with tarfile.open(path, "w:gz") as tar:
            for name, file in files.items():
                tar.add(file, name)
    packed, plain = load(path), load(folder)
    assert (packed.sha256, packed.eval_sha256) == (plain.sha256, plain.eval_sha256)


def test_an_evaluation_set_that_leaves_nothing_is_refused(folder):
    refuses("data.evaluation_size=12 leaves none of the 12 examples of pictures", folder, 12)


def test_a_class_folder_that_cannot_be_read_is_refused_and_not_left_out(folder, close_folders):
    close_folders("deep")
    with pytest.raises(PermissionError):  # which `load_source` turns into a line
        load(folder)


def test_an_empty_file_is_found_without_decoding(folder, monkeypatch):
    monkeypatch.setattr(images, "IN_MEMORY_BYTES", 0)
    load(folder).inputs.check()
    path = folder / "cat" / "3.png"
    path.write_bytes(b"")
    source = load(folder)
    rows = source.inputs if str(path.relative_to(folder)) in source.inputs.paths else source.eval_inputs
    with pytest.raises(InputError, match=r"cat/3.png holds 0 bytes and is no image; replace or remove it"):
        rows.check()
