"""The local engine keeps the contract of all engines."""

import os
import signal

import pytest

from launch.coordination.presence import Identity
from launch.engines.local import Local, Settings
from scaling.store.store import Store
from tests.launch.engines.contract import EngineContract


class LocalLab:
    """This machine."""

    name = "local"

    def __init__(self, store: Store) -> None:
        self.settings: dict = {}
        self.engine = Local(store)

    def lose(self, handle: str) -> None:
        """Kills an agent; its workers find out and end."""
        os.kill(Identity.from_handle(handle).pid, signal.SIGKILL)


@pytest.mark.slow
class TestLocal(EngineContract):
    """The contract."""

    @pytest.fixture
    def lab(self, tmp_path) -> LocalLab:
        """This machine."""
        return LocalLab(Store(tmp_path / "store"))


def test_there_is_nothing_to_set(here, study_file):
    done = here("run", study_file, "--detach", "--option", "partition=gpu")
    assert done.returncode == 2
    assert "--option partition=gpu: there is no 'partition'" in done.stderr
    assert Settings() == Settings()
