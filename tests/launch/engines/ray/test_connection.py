"""Connections to Ray clusters: those that do not answer, refuse or are lost are told of in one line."""

import importlib.util
import json
import os
import subprocess

import pytest

from launch.engines import EngineError
from launch.engines.ray.engine import RayEngine, Settings
from scaling.specs.base import InputError
from tests.launch.engines.ray_cluster import (
    ENVIRONMENT,
    HELP,
    lone_cluster,
    run,
)

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the package ray")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_cluster_that_does_not_answer_is_said_in_one_line(address):
    with pytest.raises(EngineError, match=f"no Ray cluster answers at {address}; start one") as found:
        RayEngine(Settings(address=address)).submit(HELP, 1)
    assert "\n" not in str(found.value)


def test_an_address_is_refused_that_is_none():
    with pytest.raises(InputError, match="address='somewhere': must be HOST:PORT"):
        RayEngine(Settings(address="somewhere")).observe(["somewhere/keeper/0"])


SMOKE = """
import json, time
from launch.engines import Order
from launch.engines.ray.engine import RayEngine, Settings
engine = RayEngine(Settings())
handles = engine.submit(Order("smoke", "nowhere", ("--help",)), 1)
while (seen := engine.observe(handles)[handles[0]]).state in ("waiting", "running"):
    time.sleep(0.1)
print(json.dumps([seen.state, engine.outlives_command, handles[0]]))
"""


def test_without_an_address_a_cluster_begins_and_ends_with_the_command(python):
    done = run(python, "-c", SMOKE)
    assert done.returncode == 0, done.stderr
    state, outlives, handle = json.loads(done.stdout)
    assert (state, outlives) == ("ended", False)
    assert RayEngine(Settings()).observe([handle])[handle].state == "ended", "its cluster is still there"


@pytest.mark.slow
def test_a_token_that_a_cluster_does_not_take_is_said_with_what_to_do(python, tmp_path):
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 2}
    asks = "import sys\n" + SMOKE.replace("Settings()", "Settings(address=sys.argv[1])")

    def ask(address: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return run(python, "-c", asks, address, HOME=str(tmp_path), **environment)

    with lone_cluster(**token) as (address, _):
        taken = ask(address, **token)
        assert taken.returncode == 0, taken.stderr
        assert json.loads(taken.stdout)[:2] == ["ended", True]
        refused = ask(address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="f" * 32)
        assert "RAY_AUTH_TOKEN here, or ~/.ray/auth_token" in refused.stderr.splitlines()[-1]
        without = ask(address, RAY_AUTH_MODE="token")
        assert "no authentication token was found" in without.stderr.splitlines()[-1]


WATCHES = """
import sys
from launch.engines import EngineError, Order
from launch.engines import connect as connect_engine
from launch.engines.ray.engine import RayEngine, Settings
engine = RayEngine(Settings(address=sys.argv[1]))
handles = engine.submit(Order("test", "nowhere", ("--help",)), 1)
print("submitted", flush=True)
sys.stdin.read()
try:
    print(engine.observe(handles))
except EngineError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_command_survives_the_loss_of_its_cluster(python):
    with lone_cluster() as (address, ray):
        watch = subprocess.Popen(
            [python, "-c", WATCHES, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **ENVIRONMENT},
        )  # fmt: skip
        assert watch.stdout.readline() == "submitted\n"
        ray.terminate()
        ray.wait()
        out, _ = watch.communicate("")
    assert watch.returncode == 0
    assert out == f"the Ray cluster {address} does not answer any more; is its head node there?\n"
