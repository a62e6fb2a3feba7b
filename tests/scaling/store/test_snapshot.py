"""The snapshot is never the truth: it is used for what has not changed, made again when it is bad, and not missed."""

from pathlib import Path

import pytest

from scaling.store import gathering, snapshot
from scaling.store.cache import cache_folder
from scaling.store.record import CorruptStoreError
from scaling.store.store import Store
from tests.scaling.store.large import make_large, make_study
from tests.scaling.store.toy_study import make_record

READERS = {
    "rows": lambda store: repr(store.rows(all_fields=True)),
    "records": lambda store: list(store.records().items()),
    "summaries": lambda store: list(store.summaries().items()),
    "labels": lambda store: list(store.outline.labels.items()),
    "fields": lambda store: list(store.fields().items()),
}


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch, tmp_path):
    monkeypatch.setattr(snapshot, "MANY_ON_DISK", 4)
    monkeypatch.setattr(snapshot, "MANY_ELSEWHERE", 4)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(params=["disk", "bucket"])
def large(request, tmp_path):
    """A store of eight complete cells, and of one that is not."""
    where = tmp_path / "store" if request.param == "disk" else "gs://bucket/store"
    if request.param == "bucket":
        request.getfixturevalue("buckets")
    return make_large(where, 9, complete=8)


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The cells whose records are read."""
    found: list[str] = []
    read = gathering.read_files

    def watch(folder, name, cells):
        for cell, content in read(folder, name, cells):
            found.append(cell)
            yield cell, content

    monkeypatch.setattr(gathering, "read_files", watch)
    return found


def files_of(store: Store) -> list[str]:
    return sorted(path.name for path in store.path.glob("snapshot/*"))


def read_all(store: Store) -> dict:
    """Returns what a new process would read."""
    return {name: read(Store.open(store.path)) for name, read in READERS.items()}


@pytest.fixture
def truth(large, monkeypatch) -> dict:
    """What is read where no snapshot is."""
    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "MANY_ON_DISK", 10**9)
        patch.setattr(snapshot, "MANY_ELSEWHERE", 10**9)
        found = read_all(large)
    assert files_of(large) == []
    return found


@pytest.mark.parametrize("first", READERS)
def test_whoever_reads_first_writes_it_and_everybody_reads_the_same_from_it(large, truth, first, reads):
    READERS[first](Store.open(large.path))
    kinds = {name.partition(".")[0] for name in files_of(large)}
    assert kinds == ({"study"} if first in ("labels", "fields") else {"study", "records"})
    reads.clear()
    assert read_all(large) == truth
    assert len(reads) == (0 if "records" in kinds else 8)  # once


def test_it_makes_reading_records_needless(large, truth, reads):
    large.rows()
    reads.clear()
    assert read_all(large) == truth
    assert reads == []


def test_records_that_changed_came_or_went_are_read_from_their_files(large, truth, reads):
    large.rows()
    cells = list(large.outline.labels)
    changed, came, gone = cells[0], cells[8], cells[3]
    study = make_study(9)
    (large.cell_path(changed) / "record.json").unlink()
    large.publish(make_record(study.cells[changed], wall_seconds=77.0))
    large.publish(make_record(study.cells[came]))
    (large.cell_path(gone) / "record.json").unlink()
    reads.clear()
    for name in ("rows", "records", "summaries"):
        READERS[name](Store.open(large.path))
    assert reads == [changed, came] * 3
    found = Store.open(large.path).summaries()
    assert list(found) == [cell for cell in cells if cell != gone]
    assert found[changed].wall_seconds == 77.0
    rows = Store.open(large.path).rows()
    assert [row["cell"] for row in rows if row["is_final"]] == list(found)
    assert [row["wall_seconds"] for row in rows if row["cell"] == changed] == [None, 77.0]


def test_a_record_that_was_damaged_since_names_its_file(large):
    large.rows()
    path = large.cell_path(next(iter(large.outline.labels))) / "record.json"
    path.write_text("{")
    for read in ("rows", "records", "summaries"):
        with pytest.raises(CorruptStoreError, match=r"record\.json.*delete that file"):
            READERS[read](Store.open(large.path))


def test_it_is_written_again_when_enough_is_new_and_not_before(tmp_path, monkeypatch, reads):
    store = make_large(tmp_path / "store", 40, complete=30)
    store.summaries()
    (path,) = Path(store.path).glob("snapshot/records.*")
    before = path.stat().st_mtime_ns, path.stat().st_ino
    study = list(make_study(40).cells.values())
    for cell in study[30:33]:
        store.publish(make_record(cell))
    store.summaries()
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before
    store.publish(make_record(study[33]))
    store.summaries()
    assert path.stat().st_ino != before[1]
    reads.clear()
    assert len(store.summaries()) == 34
    assert reads == []


def test_small_stores_have_none(tmp_path, monkeypatch):
    store = make_large(tmp_path / "store", 3)
    read_all(store)
    assert files_of(store) == []


@pytest.mark.parametrize("kind", ["records", "study"])
@pytest.mark.parametrize("damage", ["empty", "cut", "a byte", "text", "a folder"])
def test_a_damaged_one_is_made_again(large, truth, kind, damage, monkeypatch):
    read_all(large)
    (path,) = large.path.glob(f"snapshot/{kind}.*")
    content = path.read_bytes()
    if damage == "a folder":
        if str(path).startswith("gs:"):
            pytest.skip("buckets have no folders")
        path.unlink()
        path.mkdir()
        assert read_all(large) == truth
        return
    place = len(content) // 3
    damaged = {
        "empty": b"", "cut": content[:place], "text": b"not a snapshot\n" * 99,
        "a byte": content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :],
    }  # fmt: skip
    path.write_bytes(damaged[damage])
    assert read_all(large) == truth
    assert path.read_bytes() == content or damage == "a byte"  # of a column that was not read, perhaps


def test_one_of_another_version_is_not_believed(large, truth, monkeypatch):
    read_all(large)
    ours = files_of(large)
    (path,) = large.path.glob("snapshot/records.*")
    other = large.path / "snapshot" / "records.0123456789ab.parquet"
    other.write_bytes(path.read_bytes())
    monkeypatch.setattr(snapshot, "version", lambda: "0123456789ab")
    assert read_all(large) == truth
    assert other.read_bytes() != path.read_bytes()
    assert set(ours) < set(files_of(large))  # for whoever uses that version


def test_files_of_old_versions_do_not_pile_up(tmp_path, monkeypatch):
    store = make_large(tmp_path / "store", 8)
    for number in range(6):
        monkeypatch.setattr(snapshot, "version", lambda number=number: f"{number:012d}")
        Store.open(store.path).summaries()
    found = [name for name in files_of(store) if name.startswith("records")]
    assert found == [f"records.{number:012d}.parquet" for number in (3, 4, 5)]


def test_a_copied_store_does_not_believe_the_others(large, truth, tmp_path, reads):
    if str(large.path).startswith("gs:"):
        pytest.skip("generations are copied by no tool")
    import shutil

    large.rows()
    copy = Store.open(shutil.copytree(large.path, tmp_path / "copy"))
    reads.clear()
    assert READERS["rows"](copy) == truth["rows"]
    assert len(reads) == 8


def test_removing_it_loses_nothing(large, truth):
    read_all(large)
    for path in large.path.glob("snapshot/*"):
        path.unlink()
    assert read_all(large) == truth


def test_a_store_that_cannot_be_written_has_its_own_in_the_cache_folder(tmp_path, reads):
    store = make_large(tmp_path / "store", 8)
    (store.path / "snapshot").write_text("in the way")
    before = read_all(store)
    assert len(list((cache_folder() / "snapshot").rglob("*.parquet"))) == 2
    reads.clear()
    assert read_all(store) == before
    assert reads == []


def test_where_nothing_can_be_written_nothing_is_said(tmp_path, monkeypatch, capsys):
    store = make_large(tmp_path / "store", 8)
    (store.path / "snapshot").write_text("in the way")
    (tmp_path / "cache").write_text("in the way")
    assert len(Store.open(store.path).rows()) == 16
    assert capsys.readouterr() == ("", "")


def test_a_bucket_that_may_only_be_read_is_read(buckets, reads):
    store = make_large("gs://bucket/store", 8)
    buckets.denied.append("gs://bucket")
    assert len(Store.open(store.path).summaries()) == 8
    reads.clear()
    assert len(Store.open(store.path).summaries()) == 8
    assert reads == []


def test_a_writer_that_is_killed_leaves_the_one_before(tmp_path, monkeypatch):
    store = make_large(tmp_path / "store", 8)
    store.summaries()
    before = {path: path.read_bytes() for path in store.path.glob("snapshot/*")}

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        snapshot.write_snapshot(store.path, "study", store.outline.fields())
    assert {path: path.read_bytes() for path in store.path.glob("snapshot/*")} == before


def test_a_study_that_has_grown_is_read_anew(tmp_path):
    store = make_large(tmp_path / "store", 8)
    read_all(store)
    store.create(make_study(10).canonical_json())
    assert list(Store.open(store.path).outline.labels) == list(make_study(10).cells)
    assert list(store.outline.labels) == list(make_study(10).cells)
