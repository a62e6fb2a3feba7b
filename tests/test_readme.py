"""What the README shows is true: its study resolves, its commands parse, its files exist."""

import re
from pathlib import Path

import pytest

from launch.cli import _parser
from scaling.study import resolve_study

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines() if line.startswith("scaling ")]


def test_the_study_of_your_own_resolves(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    path = tmp_path / "mine.py"
    path.write_text(code)
    study = resolve_study(str(path))
    assert study.name == "mine"
    assert len(study.cells) == 2 * 5 * 3
    assert study.fit.law == "power_floor"


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_parses(line):
    words = re.split(r"\s{3,}", line)[0] if "--set" not in line else line
    arguments = [word.strip("'") for word in words.replace("power|power_floor|chinchilla", "power").split()[1:]]
    _parser().parse_args(arguments)


def test_every_linked_file_exists():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_listed_module_exists():
    (tree,) = [block for block in BLOCKS if block.startswith("configs/ ")]
    files = re.findall(r"\b(\w+\.py)\b", tree)
    assert len(files) > 15
    for name in files:
        assert list(ROOT.glob(f"*/{name}")), name
