"""Claims about the command itself: it costs nothing until it is used, and what it says goes where it should."""

import functools
import subprocess
from collections.abc import Callable

import pytest

from analysis.errors import AnalysisError
from analysis.tables.table import read_table
from tests.launch.import_calls import Call, call_import

HEAVY = ("numpy", "pandas", "pyarrow", "wandb", "mlflow", "tensorboardX", "tqdm", "yaml", "sqlite3")


def test_the_command_is_listed_without_loading_anything_heavy(python):
    code = "import launch.commands.import_runs, sys; print(' '.join(sys.modules))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert not {name.partition(".")[0] for name in done.stdout.split()} & set(HEAVY)


@pytest.fixture
def import_runs(capsys: pytest.CaptureFixture[str]) -> Callable[..., Call]:
    """What `scaling import WORDS…` does."""
    return functools.partial(call_import, capsys)


@pytest.fixture
def runs_file(tmp_path):
    """Two runs."""
    (tmp_path / "r.csv").write_text("n,loss,State\n1000,3.0,finished\n2000,2.0,crashed\n")
    return tmp_path / "r.csv"


def test_json_is_one_document_and_the_rest_goes_to_standard_error(runs_file, import_runs, tmp_path):
    columns = ["--column", "loss=loss", "--column", "num_params=n", "--column", "status=State"]
    done = import_runs("csv", runs_file, "--store", tmp_path / "store", *columns, "--json")
    assert done.status == 0
    assert done.json["mapping"]["columns"] == {
        "loss": "summary.loss", "num_params": "summary.n", "status": "summary.State"
    }  # fmt: skip
    assert (done.json["report"]["statuses"], done.json["fetched"]) == ({"ok": 1, "interrupted": 1}, 2)
    assert done.err.startswith("2 runs fetched")


def test_the_other_commands_read_the_folder_or_say_what_it_lacks(runs_file, import_runs, tmp_path):
    words = ["csv", runs_file, "--store", tmp_path / "store"]
    assert import_runs(*words).status == 2
    with pytest.raises(AnalysisError, match="holds imported runs and no mapping yet; run scaling import again"):
        read_table(str(tmp_path / "store"))
    assert import_runs(*words, "--column", "loss=loss").status == 0
    assert read_table(str(tmp_path / "store"))["loss"].tolist() == [3.0, 2.0]
    (tmp_path / "store" / "table.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(
        AnalysisError, match=r"table\.parquet cannot be read \(.*\); run scaling import again"
    ) as caught:
        read_table(str(tmp_path / "store"))
    assert "\n" not in str(caught.value)


def test_a_run_that_left_the_source_stays_and_it_is_said(runs_file, import_runs, tmp_path):
    words = ["csv", runs_file, "--store", tmp_path / "store", "--column", "loss=loss"]
    import_runs(*words)
    runs_file.write_text("n,loss,State\n1000,3.0,finished\n")
    done = import_runs(*words)
    assert "1 runs of the folder are no longer in the source; they stay in the table" in done.err
    assert "2 rows of 2 of 2 runs" in done.out


def test_a_folder_without_runs_cannot_be_mapped(import_runs, tmp_path):
    done = import_runs("csv", "any.csv", "--store", tmp_path / "store", "--no-fetch")
    assert (done.status, "holds no import.json; import into it first" in done.err) == (2, True)
    (tmp_path / "r.csv").write_text("n,loss\n")
    done = import_runs("csv", tmp_path / "r.csv", "--store", tmp_path / "store")
    assert (done.status, "holds no runs; nothing can be mapped" in done.err) == (1, True)
