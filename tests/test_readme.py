"""What the README shows is true: its study resolves, its commands parse, its files exist."""

import re
import shlex

import pytest

from launch.cli import make_parser
from scaling.specs.study import resolve_study
from tests.places import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
LINES = [line for language, text in BLOCKS if not language for line in text.replace("\\\n", " ").splitlines()]
COMMANDS = [line for line in LINES if line.startswith("scaling ")]


def test_the_study_of_your_own_resolves(tmp_path):
    (code,) = [text for language, text in BLOCKS if language == "python"]
    path = tmp_path / "mine.py"
    path.write_text(code)
    study = resolve_study(str(path))
    assert study.name == "mine"
    assert len(study.cells) == 2 * 5 * 3
    assert study.fit.law == "power_floor"


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
