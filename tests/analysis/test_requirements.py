"""Claims about analysis/requirements.txt: it is a part of what the package needs, and enough to analyse tables."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata

from analysis.laws.registry import get_law
from tests.places import ROOT

LINES = (ROOT / "analysis" / "requirements.txt").read_text().splitlines()
WANTED = [line for line in LINES if not line.startswith("#")]
BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
from launch.cli import main

for words in CALLS:
    assert main(words) == 0, words
assert main(["models", "--params", "1M"]) == 2
"""


def name_of(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement.strip())[0].lower().replace("_", "-")


def collect(requirement: str, found: set[str]) -> None:
    """Adds the distributions that a requirement brings, those of its extras too."""
    extras = re.findall(r"\[(.*?)\]", requirement)
    if not extras and name_of(requirement) in found:
        return
    try:
        requires = metadata.requires(name_of(requirement)) or ()
    except metadata.PackageNotFoundError:  # for another system
        return
    found.add(name_of(requirement))
    for needed in requires:
        what, _, marker = needed.partition(";")
        extra = re.search(r"extra == ['\"](.*?)['\"]", marker)
        if extra is None or (extras and extra[1] in extras[0].split(",")):
            collect(what, found)


def test_they_are_requirements_of_the_package_and_read_sheets():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(WANTED) <= {*project["dependencies"], *project["optional-dependencies"]["excel"]}


def test_they_are_enough_to_read_fit_predict_decide_and_report(tmp_path):
    found: set[str] = set()
    for line in WANTED:
        collect(line, found)
    assert not {"jax", "flax", "wandb", "tensorflow-datasets"} & found
    modules = metadata.packages_distributions()
    ours = {"scaling", "analysis", "launch", "configs"}
    blocked = {
        module
        for module, names in modules.items()
        if module not in ours and not {name.lower().replace("_", "-") for name in names} & found
    }
    sample = get_law("chinchilla").sample(levels=4, noise=1e-3).assign(label="a")
    sample["train_flops"] = 6 * sample["num_params"] * sample["data_seen"]
    table, fit = str(tmp_path / "t.csv"), str(tmp_path / "fit.json")
    sample.to_csv(table, index=False)
    calls = [
        ["table", table, "--to", str(tmp_path / "t.parquet")],
        ["fit", table, "--law", "chinchilla", "--bootstrap", "4", "--to", fit, "--figure", str(tmp_path / "f.svg")],
        ["predict", fit, "--at", "num_params=1e9,data_seen=1e10"],
        ["optimum", fit, "--flops", "1e21"],
        ["suggest", fit, "--target", "flops=1e22", "--budget", "1e21"],
        ["report", table, "--bootstrap", "4", "--out", str(tmp_path / "page.html")],
        ["import", "csv", table, "--store", str(tmp_path / "store"), "--column", "loss=loss"],
    ]
    script = f"BLOCKED, CALLS = {blocked!r}, {calls!r}\n{BLOCKED}"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "models needs jax, which is not installed" in done.stderr
