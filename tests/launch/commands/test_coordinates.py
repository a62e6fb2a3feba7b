"""The coordinate check at the command line."""

import pytest

QUICK = (
    "--set", "widths=[16,64]", "--set", "depths=[2,8]", "--set", "num_steps=2", "--set", "num_seeds=1",
    "--set", "model.width=16", "--set", "model.depth=2",
)  # fmt: skip


@pytest.mark.slow
def test_a_check_compares_parametrisations_over_width_and_depth_and_draws_them(scaling):
    found = scaling.json("models", "--family", "mlp", "--coordinate-check", *QUICK)
    compared = [(verdict["parametrization"], verdict["axis"]) for verdict in found["verdicts"]]
    assert compared == [("standard", "width"), ("mup", "width"), ("standard", "depth"), ("completep", "depth")]
    assert [verdict["passes"] for verdict in found["verdicts"]] == [False, True, False, True]
    assert "<svg" in (scaling.folder / found["figure"]).read_text()
    assert found["figure"] == "coordinate-check-mlp.svg"


def test_a_named_parametrisation_is_checked_alone_and_its_failure_is_the_commands(here, quick_compilation):
    call = ("models", "--family", "mlp", "--coordinate-check", *QUICK, "--set", "model.parametrization=mup")
    done = here(*call, "--set", "widths=[]", "--out", "check.png")
    assert done.returncode == 1  # μP claims nothing over depth
    assert "fails: update" in done.stdout
    assert "standard" not in done.stdout
    assert (here.folder / "check.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--family", "mpl", "--coordinate-check"], "did you mean 'mlp'?"),
        (["--family", "mlp", "--coordinate-check", "--set", "widths=[64]"], "a slope needs two sizes at least"),
        (["--coordinate-check"], "give --family NAME alone"),
        (["--family", "mlp", "--params", "1M", "--coordinate-check"], "give --family NAME alone"),
        (["--family", "mlp", "--out", "a.svg"], "is for the figure of --coordinate-check"),
    ],
)
def test_a_wrong_call_says_why_and_does_nothing(here, words, message):
    done = here("models", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
