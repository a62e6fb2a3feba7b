"""What earlier versions wrote is read, written and computed alike: the golden files are never made anew to pass."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from etils import epath

from analysis.fitting.fit import load_fits
from analysis.tables.table import fingerprint_table, read_table
from analysis.validation.frozen import score
from launch.cli import main
from launch.coordination.launches import read_launches
from scaling.specs.base import parse
from scaling.specs.cell import Cell
from scaling.specs.data import SourceSpec
from scaling.specs.models import ModelSpec
from scaling.specs.study import Study, resolve_study
from scaling.store.attempts import read_attempts
from scaling.store.columns import TABLE_COURSE
from scaling.store.curves import read_curve
from scaling.store.store import Store
from scaling.tracking.curve_file import CurveFile
from tests.golden.cells import MODELS, OPTIMIZERS, SCHEDULES, SOURCES, vary
from tests.golden.compute import COMPUTED, GOLDEN, TABLE_JSON, run_command, save_again

STORE = GOLDEN / "store"
FAILED = "a120d0d32b95"
CELLS = sorted(path.name for path in (STORE / "cells").iterdir())
FITS = sorted(path.name for path in (GOLDEN / "fits").iterdir())


def read(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text())


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def copy(tmp_path) -> Path:
    """A copy of the store, to write to."""
    return Path(shutil.copytree(STORE, tmp_path / "store"))


def check_same(found: Any, golden: Any, rel: float, least: float = 0.0, place: str = "") -> None:
    """Asserts that two documents are equal, numbers in floating point but for rounding."""
    if isinstance(golden, dict):
        assert list(found) == list(golden), place
        for name, value in golden.items():
            check_same(found[name], value, rel, least, f"{place}/{name}")
    elif isinstance(golden, list):
        assert len(found) == len(golden), place
        for number, value in enumerate(golden):
            check_same(found[number], value, rel, least, f"{place}/{number}")
    elif isinstance(golden, float):
        assert math.isclose(found, golden, rel_tol=rel, abs_tol=least) or (found != found and golden != golden), (
            f"{place}: {found!r} is not {golden!r}"
        )
    else:
        assert found == golden, place


# --- the store ------------------------------------------------------------------------------------------------------


def test_the_golden_store_holds_every_kind_of_cell():
    store = Store.open(STORE)
    records = store.records()
    assert {record.family for record in records.values()} == {
        "convnet", "logistic_regression", "mlp", "random_forest", "ridge", "transformer",
    }  # fmt: skip
    assert {store.cell_status(cell) for cell in CELLS} == {"ok", "diverged", "failed"}
    leaves = [record for record in records.values() if record.trunk is not None]
    assert len({record.trunk for record in leaves}) == 1
    assert len(leaves) == 2
    assert leaves[1].train_flops_spent < leaves[1].evaluations[-1].train_flops


def is_since(column: str) -> bool:
    """Returns whether a column has come since: what a run took and how it went, and the fields of the cells."""
    return column in TABLE_COURSE or "." in column


def without_since(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if not is_since(name)} for row in rows]


def table_without_since(source: str, **kwargs: Any) -> pd.DataFrame:
    """Returns a table with the columns that it had, which are its first ones."""
    table = read_table(source, **kwargs)
    kept = [name for name in table.columns if not is_since(name)]
    assert list(table.columns[: len(kept)]) == kept
    return table[kept]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_the_table_of_the_store_is_written_to_files_alike(suffix, tmp_path):
    path = tmp_path / f"table{suffix}"
    assert main(["table", str(STORE), "--to", str(path)]) == 0
    table_without_since(str(path)).to_csv(tmp_path / "again.csv", index=False)
    assert (tmp_path / "again.csv").read_bytes() == (GOLDEN / "table.csv").read_bytes()


def test_the_table_of_the_store_is_printed_alike(tmp_path):
    (tmp_path / "printed.csv").write_text(run_command(["table", "store"]))
    table_without_since(str(tmp_path / "printed.csv")).to_csv(tmp_path / "again.csv", index=False)
    assert (tmp_path / "again.csv").read_bytes() == (GOLDEN / "table.csv").read_bytes()
    rows = without_since(json.loads(run_command(TABLE_JSON.split())))
    check_same(rows, read("table.json"), rel=1e-9)  # which was written with ten digits; all are printed now


def test_the_study_is_read_and_written_alike_and_its_function_returns_it(tmp_path):
    text = (STORE / "study.json").read_text()
    assert parse(Study, text, "study.json").canonical_json() + "\n" == text
    assert resolve_study(str(GOLDEN / "study.py")).canonical_json() + "\n" == text
    Store(tmp_path / "new").create(text.removesuffix("\n"))
    assert (tmp_path / "new" / "study.json").read_text() == text


@pytest.mark.parametrize("name", CELLS)
def test_a_cells_files_are_read_and_written_alike(name, tmp_path):
    old, new = STORE / "cells" / name, Store(tmp_path / "new")
    folder = Path(new.cell_path(name))
    cell = parse(Cell, (old / "cell.json").read_text(), name)
    assert cell.fingerprint() == name
    new.write_cell(cell.canonical_json())
    record = Store.open(STORE).read_record(name)
    assert (record is None) == (name == FAILED)
    if record is not None:
        new.publish(record)
    tracker = CurveFile(new.cell_path)
    tracker.begin(name, 0)
    for point in read_curve(epath.Path(old)):
        tracker.log(name, [point])
    attempts = read_attempts(epath.Path(old))
    (folder / "attempts.jsonl").write_text("".join(one.canonical_json() + "\n" for one in attempts))
    before = bytes_of(old)
    leases = {place: before.pop(place) for place in list(before) if place.startswith("leases")}
    assert bytes_of(folder) == before
    if record is not None and leases:  # a record is the last entry of its chain
        assert leases[max(leases)] == before["record.json"]


def test_launches_are_read_and_written_alike():
    (launch,) = read_launches(Store.open(STORE))
    (path,) = STORE.glob("launches/*/launch.json")
    assert launch.canonical_json() + "\n" == path.read_text()
    assert path.parent.name == launch.name


def test_the_study_run_again_lacks_only_what_failed(copy):
    planned = json.loads(run_command(["run", str(copy / "study.json"), "--store", str(copy), "--dry-run", "--json"]))
    assert (planned["to_train"], planned["complete"]) == ([FAILED], len(CELLS) - 1)
    assert bytes_of(copy) == bytes_of(STORE)


def test_the_study_without_what_failed_finds_nothing_to_train(copy):
    study = read("store/study.json")
    study["series"] = [one for one in study["series"] if one["label"] != "one digit"]
    (copy / "study.json").write_text(json.dumps(study, sort_keys=True, separators=(",", ":")) + "\n")
    before = bytes_of(copy)
    told = json.loads(run_command(["run", str(copy / "study.json"), "--store", str(copy), "--json"]))
    assert (told["cells"], told["complete"], told["diverged"], told["failed"]) == (
        len(CELLS) - 1,
        len(CELLS) - 1,
        1,
        [],
    )
    assert bytes_of(copy) == before


# --- fits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FITS)
def test_a_saved_fit_is_read_and_saved_alike(name):
    assert save_again(GOLDEN / "fits" / name) == (GOLDEN / "fits" / name).read_text()


def test_saved_fits_name_the_tables_that_they_were_made_of():
    def named(name: str) -> set[str | None]:
        return {fit.table_sha256 for fit in load_fits(str(GOLDEN / "fits" / f"{name}.json"))}

    adam = read_table(str(GOLDEN / "sizes.csv"), keep=["optimizer==adam"])
    theirs = {"num_params": "Model Size", "train_flops": "Training FLOP", "loss": "Final Loss"}
    derived = read_table(str(GOLDEN / "theirs.csv"), theirs, ["data_seen"], ["loss<3.5"])
    assert named("chinchilla") == named("held") == {fingerprint_table(adam)}
    assert named("column") == {fingerprint_table(derived)}
    assert named("m4") == {fingerprint_table(read_table(str(GOLDEN / "learning.csv"), keep=["label==MLP"]))}
    assert named("store") == {fingerprint_table(table_without_since(str(STORE), keep=["label==logistic regression"]))}


def test_a_frozen_prediction_is_whole_and_scored(tmp_path):
    new = read_table(str(GOLDEN / "sizes.csv"), keep=["optimizer==adam"]).iloc[:1]
    new = new.assign(num_params=2e10, data_seen=4e11, loss=2.0)
    verdict = score(str(GOLDEN / "frozen.json"), new)
    assert (len(verdict.table), verdict.unmatched, verdict.known) == (1, 1, 0)
    assert verdict.table["predicted"].iloc[0] == read("frozen.json")["estimate"][0]


# --- specifications -------------------------------------------------------------------------------------------------


def test_every_cell_keeps_its_canonical_json_and_fingerprint():
    golden = read("cells.json")
    for name, document in golden.items():
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        cell = parse(Cell, text, name)
        assert cell.canonical_json() == text
        assert cell.fingerprint() == name
    assert {name: json.loads(cell.canonical_json()) for name, cell in vary().items()} == golden


# Kinds and laws that have come since the golden files were made.
SINCE = {
    "model": {"module", "estimator"}, "source": {"code", "hugging_face"}, "optimizer": {"code"}, "schedule": {"code"},
    "law": {"mixture2", "mixture3", "mixture4", "mixture5"},
}  # fmt: skip


def test_every_kind_that_earlier_versions_wrote_is_still_there():
    def kinds(union: Any) -> set[str]:
        return {cls.model_fields["kind"].default for cls in union.__origin__.__args__}

    fields = Cell.model_fields["training"].annotation.__args__[0].model_fields
    assert {model.kind for model in MODELS} | SINCE["model"] == kinds(ModelSpec)
    assert {source.kind for source in SOURCES} | SINCE["source"] == kinds(SourceSpec)
    for specs, name in ((OPTIMIZERS, "optimizer"), (SCHEDULES, "schedule")):
        assert {spec.kind for spec in specs} | SINCE[name] == {
            cls.model_fields["kind"].default for cls in fields[name].annotation.__args__
        }


# --- numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in COMPUTED if name != "schedules.json"])
def test_what_is_computed_is_the_same(name):
    found, golden = json.loads(json.dumps(COMPUTED[name]())), read(name)
    if name == "laws.json":
        found = {law: value for law, value in found.items() if law not in SINCE["law"]}
    if name == "commands.json":
        found = {line: without_since(told) if line.startswith("table ") else told for line, told in found.items()}
    check_same(found, golden, rel=1e-9 if name == "commands.json" else 1e-12)


def test_training_has_the_same_learning_rates():
    found = json.loads(json.dumps(COMPUTED["schedules.json"]()))
    check_same(found, read("schedules.json"), rel=1e-6, least=1e-8)  # in 32 bits, of a peak of 0.01
