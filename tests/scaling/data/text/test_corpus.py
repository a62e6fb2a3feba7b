"""A folder of tokens: what does not match its manifest is refused, and a copy is hashed once."""

import os
from pathlib import Path
from typing import Any

import pytest

from scaling.data.text.corpus import open_manifest, token_dtype
from scaling.data.text.source import prepare
from scaling.specs.base import InputError
from tests.scaling.data.text.prepared import prepared_spec, refusal


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "scaling" / "text"


def raise_interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
@pytest.mark.parametrize("name", ["train.tokens", "held_out.ends"])
def test_a_damaged_file_is_refused(lines, tmp_path, name, damage):
    spec = prepared_spec(lines, tmp_path)
    path = tmp_path / "tokens" / name
    written = bytearray(path.read_bytes())
    written[100] ^= 1
    path.write_bytes(written if damage == "flip" else written[:-8])
    if damage == "remove":
        path.unlink()
    assert f"delete {tmp_path / 'tokens'} to tokenise again" in refusal(spec)


def test_a_changed_manifest_is_refused(lines, tmp_path):
    spec = prepared_spec(lines, tmp_path)
    path = tmp_path / "tokens" / "manifest.json"
    for changed in (path.read_text().replace('"vocab_size":256', '"vocab_size":255'), path.read_text()[:-9], "{}"):
        path.write_text(changed)
        assert f"delete {tmp_path / 'tokens'} to tokenise again" in refusal(spec)


def test_a_copy_is_hashed_once(lines, tmp_path, monkeypatch):
    spec = prepared_spec(lines, tmp_path)
    for path in (tmp_path / "tokens").glob("*.*"):
        os.utime(path, ns=(0, 0))
    prepare(spec)
    assert (tmp_path / "tokens" / "checked.json").exists()
    monkeypatch.setattr("scaling.data.text.corpus.hash_file", raise_interrupt)
    prepare(spec)
    (tmp_path / "tokens" / "checked.json").write_text("[]")
    with pytest.raises(KeyboardInterrupt):
        prepare(spec)


def test_a_token_type_holds_the_boundary_and_the_mask_too():
    assert [token_dtype(size) for size in (254, 255, 2**16 - 2, 2**16 - 1)] == ["|u1", "<u2", "<u2", "<i4"]


def test_a_folder_of_a_later_version_is_refused(lines, tmp_path, monkeypatch):
    spec = prepared_spec(lines, tmp_path)
    monkeypatch.setattr("scaling.data.text.corpus.FORMAT_VERSION", 2)
    with pytest.raises(InputError, match=r"is of version 1, not 2; delete .* to tokenise again"):
        open_manifest(tmp_path / "tokens")
    monkeypatch.undo()
    assert open_manifest(tmp_path / "tokens").tally == prepare(spec)[1].tally
