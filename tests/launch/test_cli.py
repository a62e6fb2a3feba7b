"""The command line: what people type, what they get, and one line when it cannot be done."""

import re
import subprocess

import pytest

from tests.launch.refusals import check_line
from tests.places import ROOT

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
        (["plan", "toy.py", "--set", "data.size=5000"], "data.size=5000 exceeds the 1397 training examples of digits"),
        (["run", "toy.py", "--set", "data.size=9", "--set", "data.order=balanced"], "below the 10 classes of digits"),
        (
            ["plan", "toy.py", "--set", "data.source.kind=idx", "--set", "data.source.folder=nowhere"],
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


CRASHES = {
    "import foo": "mine.py, line 3: ModuleNotFoundError: No module named 'foo'; install it, or name its folder",
    "x = (": "mine.py, line 3: SyntaxError: '(' was never closed",
    "x = 1 / 0": "mine.py, line 3: ZeroDivisionError: division by zero",
    "raise SystemExit": "mine.py, line 3: SystemExit",
    "def study(): return MLPSpec(num_param=3)": "mine.py, line 3: MLPSpec: there is no field 'num_param'; did you mean",
    "def study(): return {}['a']": "mine.py, line 3: KeyError: 'a'",
    "def study(n: int = 1): return ladder(n, 0)": "line 3: ladder(5, 0): need 0 < smallest <= largest (with --set n=5)",
    "def study(n: int = 1): return Series(label='x', cells=())": "leave it out (with --set n=5)",
}


@pytest.mark.parametrize("text", CRASHES)
def test_a_study_file_that_crashes_is_one_line_with_its_own_file_and_line(here, text):
    imports = "from scaling.specs.models import *\nfrom scaling.specs.study import *\n"
    (here.folder / "mine.py").write_text(imports + text)
    check_line(here("plan", "mine.py", *(["--set", "n=5"] if "n: int" in text else [])), 2, CRASHES[text])


def test_debug_shows_the_whole_traceback(here):
    (here.folder / "mine.py").write_text("import os\nimport foo\n")
    short, long = here("plan", "mine.py"), here("plan", "mine.py", "--debug")
    assert "--debug shows the traceback" in short.stderr
    assert "Traceback" in long.stderr
    assert 'mine.py", line 2, in <module>' in long.stderr
    assert long.stderr.splitlines()[-1].startswith("scaling: mine.py, line 2: ModuleNotFoundError")
    for command in COMMANDS:
        assert "--debug" in here(command, "--help").stdout


DECOYS = ("scaling", "analysis", "configs", "jax", "numpy", "random", "json", "pandas", "flax", "pydantic")


def test_a_command_that_is_typed_for_python_leaves_the_working_directory_out(python, scaling):
    for name in DECOYS:
        (scaling.folder / f"{name}.py").write_text("raise RuntimeError('a file of the working directory was imported')")
    by_hand = [python, "-m", "launch.cli", "models", "--family", "mlp", "--params", "1k"]
    done = subprocess.run(
        by_hand, capture_output=True, text=True, check=False, cwd=scaling.folder, env=scaling.environment
    )
    assert done.returncode == 0, done.stderr


def test_no_process_of_ours_is_started_with_the_working_directory_on_its_path():
    for folder in ("launch", "scaling", "analysis", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not re.search(r'(executable|python)[^"\n]{0,20}, "-[mc]"', path.read_text()), path


def test_a_study_that_is_interrupted_has_stopped(here):
    (here.folder / "mine.py").write_text("def study(): raise KeyboardInterrupt\n")
    assert here("plan", "mine.py").returncode == 75


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
