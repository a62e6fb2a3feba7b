"""`scaling models`: shapes, counts and FLOPs of any family and size, and one clear line for what cannot be."""

import json

import numpy as np
import pytest

from launch.cli import main
from launch.commands.models import render_description
from scaling.models.description import describe_family, describe_preset, list_networks
from scaling.models.registry import FAMILIES, all_presets


def printed(capsys, *arguments: str) -> str:
    assert main(["models", *arguments]) == 0
    return capsys.readouterr().out


def test_a_preset_is_one_json_object_with_what_other_tools_rely_on(capsys):
    found = json.loads(printed(capsys, "--preset", "resnet50", "--json"))
    assert (found["family"], found["preset"]) == ("resnet", "resnet50")
    assert found["num_params"]["total"] == 25_557_032 == sum(found["num_params"].values()) - 25_557_032
    assert found["flops"]["forward"] == 2 * 4_089_184_256
    assert found["flops"]["unit"] == "per example"
    assert sum(found["flops"]["terms"].values()) == found["flops"]["forward"]
    assert 2.9 < found["flops"]["train"] / found["flops"]["forward"] < 3.0  # the first layer's input needs no gradient
    assert {"shape", "convention"} <= found.keys() | found["flops"].keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_meets_ten_million_parameters(capsys, family):
    found = json.loads(printed(capsys, "--family", family, "--params", "10M", "--json"))
    assert found["num_params"]["total"] == pytest.approx(10_000_000, rel=0.03)
    assert found["request"]["miss"] == pytest.approx(found["num_params"]["total"] / 1e7 - 1)
    text = printed(capsys, "--family", family, "--params", "10M")
    assert f"{found['num_params']['total']:,} parameters" in text
    assert "10,000,000 asked for" in text
    for name in (*found["num_params"], *found["flops"]["terms"]):
        assert name in text


@pytest.mark.parametrize("family", FAMILIES)
def test_sizes_are_near_the_request_and_grow_with_it(family):
    totals = []
    for request in np.geomspace(1e5, 1e11, 13):
        found = describe_family(family, int(request), [])
        totals.append(found["num_params"]["total"])
        assert abs(found["request"]["miss"]) <= 0.03
    assert totals == sorted(totals)


def test_published_networks_are_listed_with_their_sizes(capsys):
    rows = json.loads(printed(capsys, "--json"))
    assert {row["preset"] for row in rows} == set(all_presets())
    assert {row["family"] for row in list_networks("vit")} == {"vit"}
    assert "resnet50" in printed(capsys)


def test_model_task_and_count_can_be_changed():
    base = describe_preset("gpt2", [])
    assert base["flops"]["unit"] == "per token"
    causal = describe_preset("gpt2", ["flops.attention=causal"])
    assert causal["flops"]["terms"]["attention"] == base["flops"]["terms"]["attention"] * 1025 / 2048
    shorter = describe_preset("gpt2", ["task.num_features=512"])
    assert shorter["flops"]["terms"]["attention"] == base["flops"]["terms"]["attention"] / 2
    untied = describe_preset("gpt2", ["model.tied=false"])
    assert untied["num_params"]["total"] == base["num_params"]["total"] + 50257 * 768
    images = describe_family("resnet", 10**6, ["task.image_shape=[64,64,3]", "task.num_classes=200"])
    assert images["task"]["num_features"] == 64 * 64 * 3
    wide = describe_family("mlp", None, ["model.width=300", "model.proportions=[3,1]"])
    assert wide["num_params"]["total"] == 266_610


def test_counts_can_be_asked_for_by_convention():
    found = describe_family("transformer", 10**7, ["model.convention=non_embedding", "task.vocab_size=50257"])
    assert found["num_params_by_convention"]["non_embedding"] == pytest.approx(10**7, rel=0.03)
    assert "counted as non_embedding" in render_description(found)


def test_learners_without_a_size_to_ask_for_show_what_is_known(capsys):
    assert "7,850 parameters" in printed(capsys, "--family", "logistic_regression")
    assert "follows from the data" in printed(capsys, "--family", "random_forest")
    rows = {row["family"]: row["parameters"] for row in json.loads(printed(capsys, "--family", "classical", "--json"))}
    assert rows["logistic_regression"] == rows["linear_svm"] == 7850
    assert rows["naive_bayes"] == 2 * 784 * 10 + 9
    assert rows["ridge"] == 785
    assert rows["rbf_svm"] is rows["random_forest"] is rows["gradient_boosting"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "resnet51"], "no such network; did you mean 'resnet50'?"),
        (["--family", "transfomer", "--params", "1M"], "no such family; did you mean 'transformer'?"),
        (["--family", "mlp", "--params", "ten"], "--params ten: is no count; write 10M"),
        (["--params", "10M"], "of which family?"),
        (["--preset", "gpt2", "--params", "10M"], "leave --family and --params out"),
        (["--family", "transformer", "--params", "20"], "smallest transformer for this task has"),
        (
            [
                "--family",
                "transformer",
                "--set",
                "model.width=100",
                "--set",
                "model.depth=2",
                "--set",
                "model.head_size=64",
            ],
            "width=100: a transformer cannot have it; the nearest it can is",
        ),
        (["--family", "lstm", "--params", "1M", "--set", "model.stages=[1]"], "there is no 'model.stages'"),
        (["--family", "convnet", "--params", "1M", "--set", "model.residual=true"], "there is no 'model.residual'"),
        (["--family", "mlp", "--set", "model.depth=2"], "--params is missing"),
        (["--family", "random_forest", "--params", "1M"], "leave --params out"),
    ],
)
def test_what_cannot_be_is_one_clear_line(capsys, arguments, message):
    assert main(["models", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("text", ["0", "-5", "M", "1.2.3M", "10 M", "1e", "10MB"])
def test_odd_counts_are_refused(capsys, text):
    assert main(["models", "--family", "mlp", f"--params={text}"]) == 2
    assert "is no count" in capsys.readouterr().err


OWN = """
from flax import nnx

class Net(nnx.Module):
    def __init__(self, width, task, rngs):
        self.first = nnx.Linear(task.num_features, width, rngs=rngs)
        self.second = nnx.Linear(width, width, rngs=rngs)
        self.last = nnx.Linear(width, task.num_classes, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.second(nnx.relu(self.first(x)))))

def make(width, task, rngs):
    return Net(width, task, rngs)
"""
NUMBERS = ("--set", "task.image_shape=null", "--set", "task.num_features=64")


def test_a_users_network_is_shown_with_what_its_arrays_are_taken_for(here, tmp_path):
    (tmp_path / "own_shown.py").write_text(OWN)
    found = here.json("models", "--study", "own_shown.py", "--family", "own_shown:make", "--params", "10k", *NUMBERS)
    roles = {array["path"]: array["role"] for array in found["arrays"]}
    assert (roles["first/kernel"], roles["second/kernel"]) == ("input", "hidden")
    text = here("models", "--study", "own_shown.py", "--family", "own_shown:make", "--params", "10k", *NUMBERS).stdout
    assert "What each array is taken for" in text
    unknown = here("models", "--family", "own_unknown:make", "--params", "10k")
    assert unknown.returncode == 2
    assert "--study FILE" in unknown.stderr


@pytest.mark.slow
def test_a_users_network_passes_the_coordinate_check_under_mup(here, tmp_path):
    (tmp_path / "own_checked.py").write_text(OWN)
    done = here("models", "--study", "own_checked.py", "--family", "own_checked:make", "--coordinate-check", "--json")
    assert done.returncode == 0, done.stderr
    verdicts = {verdict["parametrization"]: verdict["passes"] for verdict in json.loads(done.stdout)["verdicts"]}
    assert verdicts == {"standard": False, "mup": True}
