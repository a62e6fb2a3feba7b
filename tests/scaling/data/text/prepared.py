"""Text sources that tests prepare, and how one is refused."""

from pathlib import Path

import pytest

from scaling.data.text.source import load_text, prepare
from scaling.specs.base import InputError
from scaling.specs.data import FileDocuments, TextSource

LINES = [f"line {index}: " + "the quick brown fox jumps over the lazy dog " * (index % 5) for index in range(3000)]


def write(path: Path, documents: list[str]) -> FileDocuments:
    path.write_text("\n".join(documents) + "\n", encoding="utf-8")
    return FileDocuments(path=str(path), unit="line")


def refusal(spec: TextSource) -> str:
    with pytest.raises(InputError) as caught:
        load_text(spec, 10)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def prepared_spec(lines: FileDocuments, tmp_path: Path) -> TextSource:
    spec = TextSource(documents=lines, prepared=str(tmp_path / "tokens"))
    prepare(spec)
    return spec
