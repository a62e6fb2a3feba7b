"""The store: what is published is whole, nothing is lost, and trouble is one line."""

import fsspec
import pytest
from etils import epath
from etils.epath import backend

from scaling.specs.base import InputError
from scaling.specs.data import DataSpec, TextSource
from scaling.specs.study import Series, Study
from scaling.store import attempts
from scaling.store.record import CorruptStoreError
from scaling.store.store import Store
from tests.scaling.store.toy_study import CELLS, STUDY, make_record


def test_records_read_back_equal(store):
    for cell in CELLS[:2]:
        store.publish(make_record(cell))
    records = Store.open(store.path).records()
    assert records == {cell.fingerprint(): make_record(cell) for cell in CELLS[:2]}


def test_the_first_record_stays(store):
    store.publish(make_record(CELLS[0]))
    store.publish(make_record(CELLS[0], wall_seconds=2.0))
    assert store.read_record(CELLS[0].fingerprint()).wall_seconds == 1.0


def test_failed_and_killed_cells_have_a_row_without_measurements(store):
    failed, killed = (store.cell_path(cell.fingerprint()) for cell in CELLS[:2])
    attempts.end_attempt(failed, attempts.start_attempt(failed), "failed", "Traceback …")
    attempts.start_attempt(killed)
    assert [(row["status"], row["seed"], row.get("loss")) for row in store.rows()] == [
        ("failed", 0, None),
        ("interrupted", 1, None),
    ]


def test_failed_cells_stand_at_the_data_that_their_records_would_count(tmp_path):
    text = DataSpec(source=TextSource(sequence_length=32), size=100, duplication=0.25)
    cells = (CELLS[0], CELLS[0].model_copy(update={"data": text}))
    study = Study(name="two", question="?", series=(Series(label="one", cells=cells),))
    store = Store(tmp_path / "store")
    store.create(study.canonical_json())
    for cell in cells:
        store.write_cell(cell.canonical_json())
        attempts.start_attempt(store.cell_path(cell.fingerprint()))
    assert [row["data_unique"] for row in store.rows()] == [CELLS[0].data.size, 75 * 32]


@pytest.mark.parametrize("damage", ["", "{", '{"cell": 1}', "null"])
def test_a_corrupt_record_names_its_file_and_is_left_alone(store, damage):
    cell = CELLS[0].fingerprint()
    store.publish(make_record(CELLS[0]))
    path = store.cell_path(cell) / "record.json"
    path.write_text(damage)
    with pytest.raises(CorruptStoreError) as caught:
        store.rows()
    assert str(path) in str(caught.value)
    assert "delete that file" in str(caught.value)
    assert "\n" not in str(caught.value)
    store.publish(make_record(CELLS[0]))
    assert path.read_text() == damage


def test_a_record_in_another_cells_folder_is_corrupt(store):
    path = store.cell_path(CELLS[0].fingerprint()) / "record.json"
    path.write_text(make_record(CELLS[1]).canonical_json())
    with pytest.raises(CorruptStoreError, match="is the record of cell"):
        store.read_record(CELLS[0].fingerprint())


@pytest.mark.parametrize(
    "damage", ["", "[]", '{"name": "toy"}', '{"name": 3, "metric": "error", "fit": {}, "series": 4}']
)
def test_a_corrupt_study_names_its_file(store, damage):
    (store.path / "study.json").write_text(damage)
    with pytest.raises(CorruptStoreError, match=r"study\.json is corrupt"):
        Store.open(store.path).rows()


def test_a_store_of_another_study_is_refused_and_kept(store):
    other = STUDY.model_copy(update={"name": "other"})
    before = (store.path / "study.json").read_text()
    with pytest.raises(InputError, match="belongs to study 'toy', not 'other'; choose another --store"):
        store.create(other.canonical_json())
    assert (store.path / "study.json").read_text() == before


def test_a_study_may_grow_but_not_lose_cells(store):
    fewer = STUDY.model_copy(update={"series": (Series(label="linear", cells=CELLS[:3]),)})
    with pytest.raises(InputError, match="holds 1 cells that this version of study 'toy' lacks"):
        store.create(fewer.canonical_json())
    more = STUDY.model_copy(update={"series": (*STUDY.series, Series(label="again", cells=CELLS[:1]))})
    store.publish(make_record(CELLS[0]))
    store.create(more.canonical_json())
    assert [row["label"] for row in store.rows()] == ["linear", "linear", "again", "again"]


def test_no_store_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"holds no study\.json"):
        Store.open(tmp_path)


def test_a_folder_that_cannot_be_written_is_one_line():
    with pytest.raises(InputError, match=r"cannot write '/proc/store/study\.json'"):
        Store("/proc/store").create(STUDY.canonical_json())


def test_a_bucket_without_its_client_says_what_to_install(monkeypatch):
    def missing(name: str) -> fsspec.AbstractFileSystem:
        raise ImportError("Install gcsfs to access Google Storage")

    monkeypatch.setattr(backend.fsspec_backend, "_get_filesystem", missing)
    with pytest.raises(InputError, match="Install gcsfs"):
        Store("gs://bucket/store")


@pytest.mark.parametrize(
    "error",
    [OSError("Cannot connect to host\nssl:default"), RuntimeError("Anonymous caller does not have access, 401")],
    ids=["no network", "no credentials"],
)
def test_a_bucket_that_cannot_be_reached_is_one_line(monkeypatch, error):
    def refuse(_):
        raise error

    monkeypatch.setattr(type(epath.Path("gs://bucket/store")), "exists", refuse)
    with pytest.raises(InputError, match=r"cannot reach 'gs://bucket/store' .*check the name, the network") as caught:
        Store("gs://bucket/store")
    assert "\n" not in str(caught.value)
    assert str(error).split()[0] in str(caught.value)
