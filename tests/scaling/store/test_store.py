"""The store: what is published is whole, nothing is lost, and trouble is one line."""

import json
import multiprocessing
import os
import signal
import time

import fsspec
import pytest
from etils import epath
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem

from scaling.specs.base import InputError
from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource, TextSource
from scaling.specs.models import LogisticRegressionSpec
from scaling.specs.study import Series, Study
from scaling.store import attempts
from scaling.store.files import append_line, write_atomically
from scaling.store.record import Evaluation, Record, SubsetManifest
from scaling.store.store import CorruptStoreError, Store

CELLS = tuple(
    Cell(model=LogisticRegressionSpec(), data=DataSpec(source=DigitsSource(), size=size), seed=seed)
    for size in (10, 20)
    for seed in (0, 1)
)
STUDY = Study(name="toy", question="?", metric="error", series=(Series(label="linear", cells=CELLS),))


def make_record(cell: Cell, **changes) -> Record:
    manifest = SubsetManifest(
        source="digits",
        source_sha256="0",
        order="independent",
        seed=cell.seed,
        size=cell.data.size,
        digests={},
        class_counts=(5, 5),
        evaluation_size=5,
        evaluation_sha256="1",
    )
    evaluations = tuple(
        Evaluation(step=step, data_seen=8 * step, train_flops=80.0 * step, loss=1 / step, metrics={"error": 0.5 / step})
        for step in (1, 2)
    )
    values = {
        "cell": cell.fingerprint(),
        "family": cell.model.kind,
        "seed": cell.seed,
        "status": "ok",
        "num_params": 10,
        "params": {"head": 10},
        "data_unit": "examples",
        "data_unique": cell.data.size,
        "epochs": 1.6,
        "flops": {"logits": 160.0},
        "flops_version": 1,
        "train_flops_spent": 160.0,
        "evaluations": evaluations,
        "peak_lr": 0.1,
        "batch_size": 8,
        "wall_seconds": 1.0,
        "device_kind": "cpu",
        "num_devices": 1,
        "data": manifest,
        "environment": {},
    }
    return Record(**{**values, **changes})


@pytest.fixture(params=["local", "object store"])
def store(request, tmp_path, monkeypatch):
    """An empty store of the toy study, on disk and on something that behaves like Cloud Storage."""
    path = tmp_path / "store"
    if request.param == "object store":
        bucket = MemoryFileSystem(skip_instance_cache=True)
        monkeypatch.setattr(bucket, "protocol", ("gs", "gcs"))
        monkeypatch.setattr(MemoryFileSystem, "store", {})
        monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
        monkeypatch.setattr(backend.fsspec_backend, "_get_filesystem", lambda name: bucket)
        path = epath.Path("gs://bucket/store")
    made = Store(path)
    made.create(STUDY.canonical_json())
    for cell in CELLS:
        made.write_cell(cell.canonical_json())
    return made


def test_records_read_back_equal(store):
    for cell in CELLS[:2]:
        store.publish(make_record(cell))
    records = Store.open(store.path).records()
    assert records == {cell.fingerprint(): make_record(cell) for cell in CELLS[:2]}


def test_the_first_record_stays(store):
    store.publish(make_record(CELLS[0]))
    store.publish(make_record(CELLS[0], wall_seconds=2.0))
    assert store.read_record(CELLS[0].fingerprint()).wall_seconds == 1.0


def test_rows_have_the_contracts_columns_in_order(store):
    store.publish(make_record(CELLS[0]))
    (first, last) = store.rows()
    head = (
        "study cell family label seed step is_final status trunk num_params params_head data_unit data_seen data_unique"
    )
    tail = "epochs train_flops train_flops_spent flops_logits loss error peak_lr batch_size wall_seconds device_kind"
    assert list(first) == [*head.split(), *tail.split(), "num_devices", "mfu"]
    assert (first["is_final"], last["is_final"], last["loss"], last["epochs"]) == (False, True, 0.5, 1.6)
    assert (first["flops_logits"], last["flops_logits"]) == (80.0, 160.0)
    assert (last["study"], last["label"]) == ("toy", "linear")


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


def test_a_torn_line_hides_no_attempt(store):
    folder = store.cell_path(CELLS[0].fingerprint())
    first = attempts.start_attempt(folder)
    log = folder / attempts.FILE
    log.write_text(log.read_text() + '{"attempt": "torn')
    attempts.end_attempt(folder, first, "ok")
    assert [(a.event, a.outcome) for a in attempts.read_attempts(folder)] == [("start", None), ("end", "ok")]


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


def test_appending_after_a_torn_line_starts_a_new_one(tmp_path):
    path = epath.Path(tmp_path / "curve.jsonl")
    path.write_text('{"a": 1}\n{"a"')
    append_line(path, '{"a": 2}')
    assert path.read_text() == '{"a": 1}\n{"a"\n{"a": 2}\n'


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
