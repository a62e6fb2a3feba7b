"""What commands ask of a bucket does not grow with its cells, and many records are read at once."""

import time

import pytest

from launch.cli import main
from launch.queue.queue import queue_cells
from scaling.store import snapshot
from scaling.store.store import Store
from tests.launch.queue.cells import MLP, seeds
from tests.scaling.store.large import make_large, make_study
from tests.scaling.store.toy_study import make_record

STUDY = """
from tests.scaling.store.large import make_study

def study(count: int):
    return make_study(count)
"""
MOST = 20  # requests of a command where nothing has changed and a page has all cells


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch):
    monkeypatch.setattr(snapshot, "MANY_ELSEWHERE", 10)


def words_of(command: str, count: int, folder) -> list[str]:
    store = f"gs://bucket/of{count}"
    if command == "run":
        (folder / "large.py").write_text(STUDY)
        return ["run", str(folder / "large.py"), "--set", f"count={count}", "--store", store]
    return [command, store, *(["--to", str(folder / "table.parquet")] if command == "table" else [])]


@pytest.mark.parametrize("command", ["table", "status", "run"])
def test_a_command_that_finds_nothing_new_asks_no_more_of_many_cells_than_of_few(buckets, tmp_path, command):
    asked = {}
    for count in (12, 60):
        make_large(f"gs://bucket/of{count}", count)
        assert main(words_of(command, count, tmp_path)) == 0
        buckets.requests.clear()
        assert main(words_of(command, count, tmp_path)) == 0
        assert {method for method, _ in buckets.requests} == {"GET"}
        assert len(buckets.requests) <= MOST  # the client asks once or twice whether something is there
        asked[count] = [path for _, path in buckets.requests if "cells" in path or "parquet" in path]
    assert len(asked[60]) == len(asked[12]) <= 3


@pytest.mark.parametrize("command", ["table", "status", "run"])
def test_a_command_reads_a_record_that_is_new_and_no_other(buckets, tmp_path, command):
    store = make_large("gs://bucket/of40", 40, complete=40)
    assert main(words_of(command, 40, tmp_path)) == 0
    cell = make_study(40).cells[next(iter(store.outline.labels))]
    (store.cell_path(cell.fingerprint()) / "record.json").unlink()
    store.publish(make_record(cell))
    buckets.requests.clear()
    assert main(words_of(command, 40, tmp_path)) == 0
    read = [path for method, path in buckets.requests if "record.json?" in path.replace("%2F", "/") and "alt=" in path]
    assert len(read) == 1
    assert cell.fingerprint() in read[0]


def test_status_of_many_cells_that_were_tried_asks_for_these_alone(buckets, capsys):
    make_large("gs://bucket/of60", 60, complete=40)
    assert main(["status", "gs://bucket/of60"]) == 0
    buckets.requests.clear()
    assert main(["status", "gs://bucket/of60"]) == 0
    assert len(buckets.requests) <= MOST
    assert "40" in capsys.readouterr().out.splitlines()[-3]


def test_records_are_read_at_once(buckets):
    store = make_large("gs://bucket/of200", 200)
    buckets.latency_seconds = 0.05
    began = time.monotonic()
    assert len(Store.open(store.path).rows()) == 400
    assert time.monotonic() - began < 200 * buckets.latency_seconds / 2


def test_cells_are_queued_without_a_question_for_each(buckets):
    cells = {cell.fingerprint(): cell for cell in seeds(MLP, 30)}
    store = Store("gs://bucket/store")
    buckets.requests.clear()
    queue_cells(cells, store)
    asked = [method for method, _ in buckets.requests]
    assert asked.count("GET") <= 4
    for name, cell in cells.items():
        assert buckets.read(f"gs://bucket/store/cells/{name}/cell.json") == cell.canonical_json()
    buckets.requests.clear()
    queue_cells(cells, store)
    assert [method for method, _ in buckets.requests] == ["GET", "GET"]
