"""Files appear whole or not at all, and of many writers one creates."""

import concurrent.futures
import errno
import json
import multiprocessing
import os
import signal
import time

import pytest
from etils import epath

from scaling.specs.base import InputError
from scaling.store.files import append_line, create_once, is_local, one_line_errors, publish_texts, write_atomically


def _write_forever(path: str, ready) -> None:
    text = json.dumps({"x": "y" * 200_000})
    ready.set()
    while True:
        write_atomically(epath.Path(path), text)


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path):
    path = tmp_path / "record.json"
    context = multiprocessing.get_context("spawn")
    for delay in (0.0, 0.003, 0.01):
        ready = context.Event()
        writer = context.Process(target=_write_forever, args=(str(path), ready))
        writer.start()
        ready.wait(30)
        time.sleep(delay)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        assert not path.exists() or len(json.loads(path.read_text())["x"]) == 200_000


def test_many_files_are_on_the_disk_before_any_has_its_name(tmp_path, monkeypatch):
    paths = [tmp_path / str(number) for number in range(5)]
    seen = []
    monkeypatch.setattr(os, "sync", lambda: seen.append([path for path in paths if path.exists()]))
    publish_texts({path: path.name for path in paths})
    assert seen == [[]]
    assert [path.read_text() for path in paths] == ["0", "1", "2", "3", "4"]
    assert len(list(tmp_path.iterdir())) == 5


def test_of_many_files_that_cannot_be_written_nothing_is_left(tmp_path):
    with pytest.raises(FileNotFoundError):
        publish_texts({tmp_path / "here": "x", tmp_path / "no_folder" / "there": "x"})
    assert list(tmp_path.iterdir()) == []


def test_appending_after_a_torn_line_starts_a_new_one(tmp_path):
    path = epath.Path(tmp_path / "curve.jsonl")
    path.write_text('{"a": 1}\n{"a"')
    append_line(path, '{"a": 2}')
    assert path.read_text() == '{"a": 1}\n{"a"\n{"a": 2}\n'


def test_of_many_that_create_a_file_one_does(tmp_path):
    path = epath.Path(tmp_path / "new" / "claim")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: create_once(path, f"{number}"), range(40)))
    assert made.count(True) == 1
    assert path.read_text() == str(made.index(True))
    assert [entry.name for entry in path.parent.iterdir()] == ["claim"]  # nothing half-done is left


def test_a_file_system_without_links_is_refused_with_places_that_have_them(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(InputError, match=r"is on a file system without hard links .*; put the store on a disk, on NFS"):
        create_once(epath.Path(tmp_path / "claim"), "mine")
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_is_asked_for_a_first_generation(store):
    path = store.path / "claim"
    assert [create_once(path, text) for text in ("first", "second")] == [True, False]
    assert path.read_text() == "first"


def test_lines_follow_each_other_on_disks_and_in_buckets(store):
    path = store.path / "folder" / "events.jsonl"
    for line in ("1", "2"):
        append_line(path, line)
    assert path.read_text() == "1\n2\n"
    assert is_local(path) == ("://" not in str(path))


def test_errors_of_the_program_itself_are_not_taken_for_the_disks(tmp_path):
    with pytest.raises(ZeroDivisionError), one_line_errors(epath.Path(tmp_path)):
        raise ZeroDivisionError
    reached = one_line_errors(epath.Path("gs://bucket/x"), "read")  # whose clients have errors of their own
    with pytest.raises(InputError, match=r"cannot read .* \(ZeroDivisionError\); check the name, the network"), reached:
        raise ZeroDivisionError
