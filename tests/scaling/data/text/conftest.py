"""A file of lines to tokenise."""

import pytest

from scaling.specs.data import FileDocuments
from tests.scaling.data.text.prepared import LINES, write


@pytest.fixture
def lines(tmp_path) -> FileDocuments:
    return write(tmp_path / "lines.txt", LINES)
