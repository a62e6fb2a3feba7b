"""A way to write a file and read it at once, for the tests of files."""

from __future__ import annotations

import pytest

from analysis.tables.files.reading import read_files


@pytest.fixture
def read(tmp_path):
    """Returns a function that reads a file of some content, and gives its columns as lists and what was said."""

    def read_content(name, content, **asked):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        frame, said = read_files([str(path)], **asked)
        return frame.to_dict("list"), said

    return read_content
