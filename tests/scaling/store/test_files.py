"""Files appear whole or not at all, and of many writers one creates."""

import json
import multiprocessing
import os
import signal
import time

from etils import epath

from scaling.store.files import append_line, write_atomically


def _write_forever(path: str, ready) -> None:
    text = json.dumps({"x": "y" * 200_000})
    ready.set()
    while True:
        write_atomically(epath.Path(path), text)


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path):
    path = tmp_path / "record.json"
    context = multiprocessing.get_context("spawn")
    for delay in (0.0, 0.003, 0.01):
        ready = context.Event()
        writer = context.Process(target=_write_forever, args=(str(path), ready))
        writer.start()
        ready.wait(30)
        time.sleep(delay)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        assert not path.exists() or len(json.loads(path.read_text())["x"]) == 200_000


def test_appending_after_a_torn_line_starts_a_new_one(tmp_path):
    path = epath.Path(tmp_path / "curve.jsonl")
    path.write_text('{"a": 1}\n{"a"')
    append_line(path, '{"a": 2}')
    assert path.read_text() == '{"a": 1}\n{"a"\n{"a": 2}\n'
