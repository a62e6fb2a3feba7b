"""What docs/python.md shows runs as it stands, in a folder outside the project."""

import os
import re
import subprocess

import pytest

from tests.places import ROOT

BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/python.md").read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_the_page_goes_from_a_study_to_a_report_and_to_the_weights_of_a_cell(python, tmp_path):
    study, one_cell = BLOCKS
    (tmp_path / "mine.py").write_text(study)
    (tmp_path / "one.py").write_text(f"from mine import study\n{one_cell}")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def call(name):
        done = subprocess.run(
            [python, name], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    *_, interval, page = call("mine.py")
    alpha, low, high = (float(number) for number in re.findall(r"[\d.]+(?:e-?\d+)?", interval))
    assert low <= alpha <= high
    assert "digits" in (tmp_path / page).read_text()
    (told,) = call("one.py")
    assert 0 < float(told.split()[0]) < 1
    assert (tmp_path / "checkpoints").is_dir()
