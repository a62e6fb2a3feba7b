"""What the README shows is true: its study resolves, its commands parse, its files exist."""

import re
import shlex

import pandas as pd
import pytest

from analysis.fit_table import fit_study
from launch.cli import make_parser
from scaling.specs.study import resolve_study
from scaling.store.rows import record_rows
from scaling.training.runner import train_cell
from tests.places import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
LINES = [line for language, text in BLOCKS if not language for line in text.replace("\\\n", " ").splitlines()]
COMMANDS = [line for line in LINES if line.startswith("scaling ")]


def test_the_study_of_your_own_resolves(tmp_path):
    code = next(text for language, text in BLOCKS if language == "python")
    path = tmp_path / "mine.py"
    path.write_text(code)
    study = resolve_study(str(path))
    assert study.name == "mine"
    assert len(study.cells) == 2 * 5 * 3
    assert study.fit.law == "power_floor"


def test_what_you_bring_trains_and_is_fitted(tmp_path):
    (code,) = [text for language, text in BLOCKS if language == "python" and "from_module" in text]
    path = tmp_path / "own.py"
    path.write_text(code)
    study = resolve_study(str(path))
    rows = []
    for series in study.series:
        for cell in series.cells:
            record = train_cell(cell)
            assert set(record.code) == {"own.py"}
            rows += [{"label": series.label, **row} for row in record_rows(record)]
    fits, notices = fit_study(pd.DataFrame(rows), study.model_dump(mode="json"), 20)
    assert not notices
    for fit in fits.fits.values():
        assert (fit.law, fit.params["A"] > 0) == ("cube_root", True)
    network = [row["brier"] for row in rows if row["label"] == "own network" and row["is_final"]]
    assert network[-1] < 0.3 < network[0]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_parses(line):
    make_parser().parse_args(shlex.split(line, comments=True)[1:])


def test_the_readme_shows_every_command():
    assert {line.split()[1] for line in COMMANDS} == {
        "plan",
        "run",
        "status",
        "table",
        "fit",
        "report",
        "cell",
        "models",
        "predict",
        "optimum",
        "suggest",
        "compare",
        "logs",
        "cancel",
        "import",
        "sync",
    }


def test_every_linked_file_exists():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_listed_folder_exists():
    (tree,) = [text for _, text in BLOCKS if text.startswith("configs/ ")]
    house, listed = "", 0
    for line in tree.splitlines():
        rooms = re.findall(r"([a-z]+)/", line.partition("   ")[0])
        house = house if line.startswith(" ") else rooms[0]
        for room in rooms:
            assert (ROOT / (house if room == house else f"{house}/{room}")).is_dir(), f"{house}/{room}"
            listed += 1
    assert listed > 15
