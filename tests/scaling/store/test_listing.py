"""One file of many cells: who has it, whether it was written again, and what it holds."""

import pytest
from etils import epath

from scaling.specs.base import InputError
from scaling.store import listing
from scaling.store.listing import find_files, read_files, write_files

CELLS = [f"{number:012x}" for number in (3, 1, 2)]


@pytest.fixture(params=["tmp_path", "memory", "buckets"])
def folder(request):
    """A folder of cells on a disk, in another object store, or in a bucket."""
    there = request.getfixturevalue(request.param)
    return epath.Path("gs://bucket/store/cells" if request.param == "buckets" else there / "cells")


def test_files_are_found_in_the_order_of_the_cells_and_read(folder):
    write_files(folder, "record.json", {CELLS[0]: "three", CELLS[2]: "two"})
    write_files(folder, "record.json.old", dict.fromkeys(CELLS, "no"))
    write_files(folder, "more/record.json", dict.fromkeys(CELLS, "neither"))
    assert list(find_files(folder, "record.json", CELLS)) == [CELLS[0], CELLS[2]]
    assert list(find_files(folder, "more/record.json", CELLS[:2])) == CELLS[:2]
    assert dict(read_files(folder, "record.json", CELLS)) == {CELLS[0]: b"three", CELLS[2]: b"two"}


def test_many_files_are_written_in_batches(folder, monkeypatch):
    monkeypatch.setattr(listing, "TOGETHER", 10)
    many = {f"{number:012x}": str(number) for number in range(25)}
    write_files(folder, "cell.json", many)
    assert dict(read_files(folder, "cell.json", many)) == {cell: text.encode() for cell, text in many.items()}


def test_a_file_that_was_written_again_has_another_signature(folder):
    write_files(folder, "record.json", dict.fromkeys(CELLS, "same"))
    before = find_files(folder, "record.json", CELLS)
    assert find_files(folder, "record.json", CELLS) == before
    write_files(folder, "record.json", dict.fromkeys(CELLS[:2], "same"))
    after = find_files(folder, "record.json", CELLS)
    assert [after[cell] == before[cell] for cell in CELLS] == [False, False, True]


def test_no_folder_has_no_files(folder):
    assert find_files(folder, "record.json", CELLS) == {}
    assert list(read_files(folder, "record.json", CELLS)) == []
    assert find_files(folder, "record.json", []) == {}


def test_listings_go_on_where_a_page_ends(buckets, monkeypatch):
    monkeypatch.setattr("tests.launch.engines.gcs_server.PAGE", 2)
    many = [f"{number:012x}" for number in range(7)]
    folder = epath.Path("gs://bucket/store/cells")
    write_files(folder, "record.json", dict.fromkeys(many, "x"))
    write_files(folder, "cell.json", dict.fromkeys(many, "x"))
    buckets.requests.clear()
    assert list(find_files(folder, "record.json", many)) == many
    assert len(buckets.requests) == 4  # the service looks for the name


def test_a_bucket_folder_that_looks_like_a_pattern_is_searched_here(buckets):
    folder = epath.Path("gs://bucket/{a}/cells")
    write_files(folder, "record.json", {CELLS[0]: "x", CELLS[1]: "y"})
    assert set(find_files(folder, "record.json", CELLS)) == set(CELLS[:2])


def test_a_folder_that_cannot_be_written_is_one_line(buckets):
    buckets.denied.append("gs://bucket")
    with pytest.raises(InputError, match=r"cannot write 'gs://bucket/store/cells'"):
        write_files(epath.Path("gs://bucket/store/cells"), "cell.json", dict.fromkeys(CELLS, "x"))


def test_what_is_there_and_cannot_be_read_is_an_error(tmp_path):
    (tmp_path / CELLS[0] / "record.json").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        list(read_files(epath.Path(tmp_path), "record.json", CELLS))


def test_more_files_than_are_asked_for_together_are_all_read(folder, monkeypatch):
    monkeypatch.setattr(listing, "TOGETHER", 2)
    write_files(folder, "record.json", {cell: cell for cell in CELLS})
    assert dict(read_files(folder, "record.json", CELLS)) == {cell: cell.encode() for cell in CELLS}
