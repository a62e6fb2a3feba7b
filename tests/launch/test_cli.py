"""The command line: what people type, what they get, and one line when it cannot be done."""

import pytest

from tests.launch.refusals import check_line

COMMANDS = {
    "plan",
    "run",
    "work",
    "cell",
    "status",
    "logs",
    "cancel",
    "import",
    "sync",
    "table",
    "fit",
    "predict",
    "optimum",
    "compare",
    "suggest",
    "report",
    "models",
}


def test_help_lists_what_is_built_and_nothing_else(here):
    done = here("--help")
    listed = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("    ") and line[4] != " "}
    assert (done.returncode, listed) == (0, COMMANDS)
    for command in COMMANDS:
        assert here(command, "--help").returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "nothing"], "study 'nothing' is unknown"),
        (["run", "none.py"], "'none.py' does not exist"),
        (["plan", "toy.py", "--set", "data.sise=3"], "there is no 'data.sise'; did you mean 'size'"),
        (["run", "toy.py", "--set", "data.size=5000"], "data.size=5000 exceeds the 1397 training examples of digits"),
        (["run", "toy.py", "--set", "data.size=9", "--set", "data.order=balanced"], "below the 10 classes of digits"),
        (
            ["run", "toy.py", "--set", "data.source.kind=idx", "--set", "data.source.folder=nowhere"],
            "data.source.folder='nowhere' does not exist",
        ),
        (["run", "toy.py", "--workers", "0"], "--workers 0: must be at least 1"),
        (["run", "toy.py", "--store", "/proc/store"], "cannot write '/proc/store/"),
        (["status", "nowhere"], "store 'nowhere' holds no study.json"),
        (["table", "nowhere"], "nowhere"),
        (["report", "nowhere"], "nowhere"),
        (["cell", "nowhere.json", "--store", "store"], "cannot be read"),
    ],
)
def test_a_wrong_call_is_one_line_and_status_2(here, study_file, words, message):
    check_line(here(*words), 2, message)
    assert not (here.folder / "store").exists()
    assert not (here.folder / "runs").exists()


def test_a_corrupt_record_is_one_line_and_status_1_everywhere(finished, here, study_file):
    path = next((here.folder / "store").rglob("record.json"))
    path.write_text('{"cell":')
    for words in (
        ["run", study_file, "--store", "store"],
        ["table", "store"],
        ["status", "store"],
        ["report", "store"],
    ):
        check_line(here(*words), 1, "delete that file to train the cell again")
    assert path.read_text() == '{"cell":'
    path.unlink()
    assert "would train 1 cells, 11 are complete" in here("run", study_file, "--store", "store", "--dry-run").stdout
