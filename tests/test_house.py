"""What docs/house.md shows is true: every room with its own sentence, and every file that it points to."""

import ast
import re
import tomllib

from tests.places import ROOT

PAGE = (ROOT / "docs" / "house.md").read_text()


def sentence_of(init):
    (line, *_) = ast.get_docstring(ast.parse(init.read_text())).splitlines()
    return line.rstrip(".")


def test_every_room_stands_there_with_the_sentence_of_its_init():
    told = dict(re.findall(r"^\| `([\w/]+)/` \| (.*) \|$", PAGE, flags=re.MULTILINE))
    inits = [
        init for house in ("scaling", "analysis", "launch", "configs") for init in (ROOT / house).rglob("__init__.py")
    ]
    assert told == {str(init.parent.relative_to(ROOT)): sentence_of(init) for init in inits}


def test_its_arrows_are_the_contracts_that_lint_checks():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    checked = {
        container: [set(floor.split(" | ")) for floor in contract["layers"]]
        for contract in contracts
        for container in contract.get("containers", ())
    }
    drawn = {
        house: [set(floor.split(", ")) for floor in floors.split(" → ")]
        for house, floors in re.findall(r"^([a-z.]+) +(\S.* → .*)$", PAGE, flags=re.MULTILINE)
    }
    assert len(checked) == 5
    assert drawn == checked


def test_every_file_that_it_points_to_exists():
    targets = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert len(targets) > 12
    assert [target for target in targets if not (ROOT / "docs" / target).exists()] == []


def test_a_class_name_means_one_thing_within_a_package():
    # A layer and its module share a name on purpose, and every engine has its own settings.
    for package in ("scaling", "analysis", "launch"):
        places: dict[str, set[str]] = {}
        for path in (ROOT / package).rglob("*.py"):
            folder = str(path.parent).replace("modules", "layers")
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef) and node.name != "Settings":
                    places.setdefault(node.name, set()).add(f"{folder}/{path.name}")
        assert {name: files for name, files in places.items() if len(files) > 1} == {}
