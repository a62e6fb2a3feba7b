#!/usr/bin/env python3
"""What every host of a TPU slice runs when it starts: it makes the environment, and keeps one agent at work.

This file is the startup script itself. It stands alone, on the standard library of Python 3.8 and later, and takes what
it shall do from the machine's metadata, as JSON: `scaling-order` (fields: `Host`) and `scaling-env`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(os.environ.get("SCALING_HOST_ROOT", "/var/lib/scaling"))
METADATA = "http://" + os.environ.get("GCE_METADATA_HOST", "metadata.google.internal") + "/computeMetadata/v1/"
STORAGE = os.environ.get("STORAGE_EMULATOR_HOST", "https://storage.googleapis.com")
TPU = os.environ.get("CLOUDSDK_API_ENDPOINT_OVERRIDES_TPU", "https://tpu.googleapis.com/")
UNIT = "scaling-agent"

REPORT_SECONDS = float(os.environ.get("SCALING_REPORT_SECONDS", "60"))
NOTICE_SECONDS = 1.0  # between two looks whether this machine is about to be taken away
STOP_SECONDS = 45.0  # that an agent has to save; Google waits 30 for spot machines
GANG_SECONDS = 20.0  # that the other hosts of a gang have for their last words
LOG_BYTES = 1_000_000  # of the log's end are kept in the store

# Statuses of an agent, as in `launch.exits`, which this file cannot know; after the first three it need not be started
# again: nothing is left, cells have failed, told to stop.
DONE, WORK_FAILED, PREEMPTED, WRONG_CALL = 0, 1, 75, 2
ENDINGS = (DONE, WORK_FAILED, PREEMPTED)
STARTS = 3  # of an agent that ends in another way, before the machine is given up


def fetch(
    url: str,
    method: str = "GET",
    data: bytes | None = None,
    headers: dict[str, str] | None = None,
    timeout: float = 30.0,
) -> bytes:
    """Returns what a URL answers."""
    request = urllib.request.Request(url, data=data, method=method, headers=headers or {})  # noqa: S310
    with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310
        found: bytes = answer.read()
        return found


def metadata(name: str, default: str = "") -> str:
    """Returns a value of this machine's metadata; `default` where it has none, or does not answer."""
    try:
        return fetch(METADATA + name, headers={"Metadata-Flavor": "Google"}, timeout=5.0).decode()
    except OSError:
        return default


def again(action: Callable[[], Any], tries: int = 5, first: float = 2.0) -> Any:
    """Returns what an action returns, which is tried again, later and later, while it fails."""
    for left in reversed(range(tries)):
        try:
            return action()
        except (OSError, subprocess.CalledProcessError) as error:
            if not left:
                raise
            print(f"scaling: {error}; trying again", flush=True)
            time.sleep(first)
            first *= 2
    return None


def authorization() -> dict[str, str]:
    """Returns the header that lets this machine's service account speak to Google."""
    answer = json.loads(metadata("instance/service-accounts/default/token") or "{}")
    return {"Authorization": "Bearer " + answer.get("access_token", "")}


def read_object(url: str) -> bytes:
    """Returns the bytes at a gs:// URL."""
    bucket, _, name = url[len("gs://") :].partition("/")
    place = f"{STORAGE}/storage/v1/b/{bucket}/o/{urllib.parse.quote(name, safe='')}?alt=media"
    return fetch(place, headers=authorization(), timeout=300.0)


def write_object(url: str, data: bytes) -> None:
    """Writes bytes to a gs:// URL."""
    bucket, _, name = url[len("gs://") :].partition("/")
    place = f"{STORAGE}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={urllib.parse.quote(name, safe='')}"
    fetch(place, "POST", data, {**authorization(), "Content-Type": "application/octet-stream"})


class Host:
    """This machine, at work on an order.

    Args:
      order: `name` of the queued resource; `reports`, the gs:// folder for what this host says of itself; `code` and
        `sha256` of an archive; `words` for the `scaling` command; `python`, `install` and `image`, which say what it
        runs in; `deadline_seconds` since the first start; `hosts` that act together.
      environment: variables for the agent.
    """

    def __init__(self, order: dict[str, Any], environment: dict[str, str]) -> None:
        self.order, self.environment = order, environment
        self.worker = int(metadata("instance/attributes/agent-worker-number", "0") or 0)
        self.name = socket.gethostname() if "SCALING_HOST_NAME" not in os.environ else os.environ["SCALING_HOST_NAME"]
        self.code = ROOT / "code"
        self.log = ROOT / "agent.log"
        self.told = ""
        self.report: dict[str, Any] = {
            "host": self.name, "worker": self.worker, "began": self._began(), "seen": 0.0, "status": None, "told": "",
            "why": "",
        }  # fmt: skip
        self.lock = threading.Lock()

    def run(self) -> None:
        """Keeps the agent at work until there is no more for this machine to do, and lets go of it."""
        with contextlib.suppress(OSError):
            again(self.say, tries=3)
        threading.Thread(target=self._say_on, daemon=True).start()
        if (ROOT / "ended").exists():  # before this machine was started again
            self._let_go()
            return
        why = ""
        try:
            command = self._prepare()
            for start in range(STARTS):
                status = self._work(command)
                if self.told or status in ENDINGS:
                    break
                why = f"the agent ended {start + 1} times, at last with status {status}"
                time.sleep(min(10.0, REPORT_SECONDS) * (start < STARTS - 1))
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            status, why = WRONG_CALL, f"{type(error).__name__}: {error}"
            print(f"scaling: {why}", flush=True)
        is_over = self.told not in ("notice", "stopped")  # then it may start again, or is taken away anyhow
        if is_over:
            (ROOT / "ended").write_text("")
        with self.lock:
            self.report.update(status=status, told=self.told, why="" if status in ENDINGS else why)
        with contextlib.suppress(OSError):
            again(self.say, tries=3, first=1.0)
        if is_over:
            self._let_go()

    def say(self) -> None:
        """Writes what this host says of itself, and the end of its log, to the store."""
        with self.lock:
            self.report["seen"] = time.time()
            text = json.dumps(self.report)
        write_object(f"{self.order['reports']}/{self.name}.json", text.encode())
        if self.log.exists():
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - LOG_BYTES))
                write_object(f"{self.order['reports']}/{self.name}.log", file.read())

    def _say_on(self) -> None:
        while True:
            time.sleep(REPORT_SECONDS)
            with contextlib.suppress(OSError):
                self.say()

    def _began(self) -> float:
        """Returns when this machine first started, however often it was started again since."""
        path = ROOT / "began"
        if not path.exists():
            path.write_text(repr(time.time()))
        return float(path.read_text())

    # --- the environment --------------------------------------------------------------------------------------------

    def _prepare(self) -> list[str]:
        """Returns the agent's command, once all that it needs is there."""
        if not self.code.exists():
            again(self._unpack)
        image, install, python = self.order["image"], self.order["install"], self.order["python"]
        words = ["-P", "-m", "launch.cli", *self.order["words"]]
        self.environment["PYTHONPATH"] = str(self.code)
        self.environment["SCALING_PLACE"] = f"{self.order['name'].rpartition('/')[2]}/{self.name}"
        if image:
            registry = image.partition("/")[0]
            if registry.endswith(("pkg.dev", "gcr.io")):
                token = authorization()["Authorization"].partition(" ")[2]
                login = ["docker", "login", "-u", "oauth2accesstoken", "--password-stdin", f"https://{registry}"]
                again(lambda: subprocess.run(login, input=token.encode(), check=True))
            again(lambda: self._call("docker", "pull", image))
            names = [word for name in self.environment for word in ("-e", name)]
            mounts = ["-v", f"{self.code}:{self.code}", "-w", str(self.code)]
            given = ["--rm", "--init", "--privileged", "--network", "host", *mounts, *names]
            return ["docker", "run", *given, "--entrypoint", python, image, *words]
        if not install:
            return [python, *words]
        tools, venv = ROOT / "tools", ROOT / "venv"
        uv, own = str(tools / "bin" / "uv"), str(venv / "bin" / "python")
        if not (ROOT / "installed").exists():
            again(lambda: self._call("python3", "-m", "pip", "install", "--quiet", "--target", str(tools), "uv"))
            again(lambda: self._call(uv, "venv", "--quiet", "--clear", "--python", python, str(venv)))
            again(lambda: self._call(uv, "pip", "install", "--quiet", "--python", own, *install))
            (ROOT / "installed").write_text("")
        return [own, *words]

    def _unpack(self) -> None:
        data = read_object(self.order["code"])
        found = hashlib.sha256(data).hexdigest()
        if found != self.order["sha256"]:
            raise ValueError(f"{self.order['code']} has sha256 {found}, not {self.order['sha256']}")
        archive, folder = ROOT / "code.tar.gz", ROOT / "code.new"
        archive.write_bytes(data)
        with tarfile.open(archive) as file:
            file.extractall(folder)  # noqa: S202  (its hash was compared)
        folder.rename(self.code)

    def _call(self, *words: str) -> None:
        with self.log.open("ab") as log:
            folder = self.code if self.code.exists() else ROOT
            left = self.report["began"] + self.order["deadline_seconds"] - time.time()
            subprocess.run(
                words, check=True, cwd=folder, stdout=log, stderr=log, env=self._variables(), timeout=max(left, 1.0)
            )

    def _variables(self) -> dict[str, str]:
        base = {"HOME": "/root", "UV_PYTHON_INSTALL_DIR": str(ROOT / "python"), "PYTHONUNBUFFERED": "1"}
        return {**base, **os.environ, **self.environment}

    # --- the agent --------------------------------------------------------------------------------------------------

    def _work(self, command: list[str]) -> int:
        """Runs the agent to its end and returns its status; tells it to stop when this machine is about to end."""
        with self.log.open("ab") as log:
            agent = subprocess.Popen(command, cwd=self.code, stdout=log, stderr=log, env=self._variables())
        kill_at: float | None = None
        look_at = 0.0
        while agent.poll() is None:
            time.sleep(0.1)
            now = time.monotonic()
            if not self.told and now >= look_at:
                look_at = now + NOTICE_SECONDS
                self._look()
            if self.told and kill_at is None:
                print(f"scaling: the agent is told to stop: {self.told}", flush=True)
                agent.send_signal(signal.SIGTERM)
                kill_at = now + STOP_SECONDS
            if kill_at is not None and now > kill_at:
                agent.kill()
        return agent.returncode

    def _look(self) -> None:
        """Finds out whether this machine is about to be taken away, or has been at work for long enough."""
        if time.time() - self.report["began"] > self.order["deadline_seconds"]:
            self.told = "deadline"
        elif metadata("instance/preempted") == "TRUE" or metadata("instance/maintenance-event").startswith("TERMINATE"):
            self.told = "notice"

    def hear(self, *_: object) -> None:
        """Is told to stop, by systemd when the machine goes down."""
        self.told = self.told or "stopped"

    # --- the end ----------------------------------------------------------------------------------------------------

    def _let_go(self) -> None:
        """Gives the machines back, so that nobody pays for them any longer; the first host does it for all."""
        is_alone = self.order["hosts"] == 1
        if self.worker and not is_alone:
            return
        time.sleep(0.0 if is_alone else min(GANG_SECONDS, REPORT_SECONDS))
        try:
            place = f"{TPU.rstrip('/')}/v2/{self.order['name']}?force=true"
            again(lambda: fetch(place, "DELETE", headers=authorization()), tries=3)
        except OSError as error:
            print(f"scaling: this machine's service account cannot delete it ({error})", flush=True)
            if is_alone:  # a slice of several hosts cannot be stopped from inside
                subprocess.run(["poweroff"], check=False)


def main() -> None:
    """Runs the host's part; under systemd where that is, so that it is told when the machine goes down."""
    ROOT.mkdir(parents=True, exist_ok=True)
    own = ROOT / "host.py"
    if Path("/run/systemd/system").is_dir() and "--here" not in sys.argv:
        own.write_text(Path(__file__).read_text())
        told = ["--property=KillMode=mixed", f"--property=TimeoutStopSec={STOP_SECONDS + 15:.0f}"]
        subprocess.run(["systemd-run", f"--unit={UNIT}", *told, sys.executable, str(own), "--here"], check=True)
        return
    order = again(lambda: json.loads(fetch_attribute("scaling-order")))
    host = Host(order, json.loads(metadata("instance/attributes/scaling-env") or "{}"))
    signal.signal(signal.SIGTERM, host.hear)
    host.run()


def fetch_attribute(name: str) -> str:
    """Returns one of the values that whoever made this machine gave it."""
    return fetch(f"{METADATA}instance/attributes/{name}", headers={"Metadata-Flavor": "Google"}, timeout=5.0).decode()


if __name__ == "__main__":
    main()
