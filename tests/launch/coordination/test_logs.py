"""Parts of logs: the lines that a worker wrote while it was at a cell, and no others."""

import pytest

from launch.coordination.logs import JOB_MARK, cell_lines, find_cell, log_files
from scaling.specs.base import InputError


def write_log(store, name, *lines):
    folder = store.path / "logs"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.log").write_text("\n".join(lines) + "\n")


def test_a_cells_lines_go_from_its_beginning_to_the_next_jobs(bare_store):
    write_log(
        bare_store, "1-a", "starting", f"{JOB_MARK} begins aaa bbb", "of both", f"{JOB_MARK} ends aaa ok",
        f"{JOB_MARK} begins ccc", "of another", f"{JOB_MARK} begins aaa", "again",
    )  # fmt: skip
    write_log(bare_store, "2-b", f"{JOB_MARK} begins ccc", "of another")
    assert list(cell_lines(bare_store, "aaa")) == [
        ("1-a.log", [f"{JOB_MARK} begins aaa bbb", "of both", f"{JOB_MARK} ends aaa ok"]),
        ("1-a.log", [f"{JOB_MARK} begins aaa", "again"]),
    ]
    assert [path.name for path in log_files(bare_store)] == ["1-a.log", "2-b.log"]


def test_a_store_without_logs_has_none(bare_store):
    assert log_files(bare_store) == []
    assert list(cell_lines(bare_store, "aaa")) == []


def test_a_cell_is_found_by_the_beginning_of_its_name_alone(bare_store):
    known = ["abc1", "abd2"]
    assert find_cell(bare_store, "abc", known) == "abc1"
    with pytest.raises(InputError, match=r"cell 'ab': 2 cells of .* begin so"):
        find_cell(bare_store, "ab", known)
    with pytest.raises(InputError, match=r"cell 'x': no cell of .* begin so"):
        find_cell(bare_store, "x", known)
