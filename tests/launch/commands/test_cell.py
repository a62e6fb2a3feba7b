"""`scaling cell`: one cell trained by hand."""

from scaling.specs.study import resolve_study
from scaling.store.store import Store


def test_one_cell_trains_by_hand_with_jaxs_flags(scaling, study_file):
    cell = list(resolve_study(str(study_file)).cells.values())[-1]
    (scaling.folder / "cell.json").write_text(cell.canonical_json())
    done = scaling("cell", "cell.json", "--store", "alone", "--jax_debug_nans")
    assert (done.returncode, cell.fingerprint() in done.stdout) == (0, True), done.stderr
    record = Store(scaling.folder / "alone").read_record(cell.fingerprint())
    assert record.status == "ok"
    again = scaling("cell", "cell.json", "--store", "alone")
    assert "is complete" in again.stdout
    (scaling.folder / "cell.json").write_text(cell.canonical_json().replace('"size":200', '"size":5000'))
    failed = scaling("cell", "cell.json", "--store", "alone")
    assert failed.returncode == 1
    assert "data.size=5000 exceeds the 1397 training examples" in failed.stderr.splitlines()[-1]
