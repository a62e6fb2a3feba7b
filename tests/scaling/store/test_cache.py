"""Prepared arrays are made once, and again where the file is damaged."""

import threading

import numpy as np
import pytest

from scaling.store.cache import load_or_make, lock_folder, publish_arrays


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


def test_arrays_are_made_anew_where_nothing_can_be_kept(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # no folder can be made there
    assert [array.tolist() for array in load_or_make("x", lambda: [np.arange(3)])] == [[0, 1, 2]]


def test_a_file_of_arrays_appears_whole_or_not_at_all(tmp_path):
    class Fails:
        def __array__(self, *_, **__):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        publish_arrays(tmp_path / "a.npz", np.arange(3), Fails())
    assert list(tmp_path.iterdir()) == []
    publish_arrays(tmp_path / "a.npz", np.arange(3), more=np.eye(2))
    with np.load(tmp_path / "a.npz") as kept:
        assert kept.files == ["more", "arr_0"]


def test_two_processes_make_a_folder_one_after_the_other(tmp_path, monkeypatch):
    holds, waits, may_go = threading.Event(), threading.Event(), threading.Event()
    order, said = [], []

    def say(words, file):
        said.append(words)
        waits.set()

    monkeypatch.setattr("scaling.store.cache.print", say, raising=False)

    def first():
        with lock_folder(tmp_path / "made"):
            holds.set()
            may_go.wait(30)
            order.append("first")

    def second():  # another open file, as another process has it
        with lock_folder(tmp_path / "made"):
            order.append("second")

    one, other = threading.Thread(target=first), threading.Thread(target=second)
    one.start()
    assert holds.wait(30)
    other.start()
    assert waits.wait(30)
    assert said == [f"waiting for another process, which prepares {tmp_path / 'made'}"]
    may_go.set()
    one.join()
    other.join()
    assert order == ["first", "second"]
