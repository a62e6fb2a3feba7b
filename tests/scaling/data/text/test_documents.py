"""Documents: every format gives its texts in one order, and says where and why it cannot."""

import gzip
import json
import os
import tracemalloc
import types
from pathlib import Path

import pytest

from scaling.data.text.documents import MissingDocumentsError, document_files, read_documents
from scaling.specs.base import InputError
from scaling.specs.data import DocumentsSpec, FileDocuments, StdlibDocuments, TfdsDocuments


def texts(spec: DocumentsSpec) -> list[bytes]:
    return [document.text for document in read_documents(spec)]


def files(path: Path, **how: str) -> FileDocuments:
    return FileDocuments.model_validate({"path": str(path), **how})


def refusal(spec: DocumentsSpec) -> str:
    with pytest.raises(InputError) as caught:
        list(read_documents(spec, "data.source.evaluation_documents"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_is_read_in_the_order_of_its_paths_without_hidden_files(tmp_path):
    for name in ("b.txt", "a/z.txt", "a/y.txt", ".hidden/x.txt", ".z.txt", "a/.x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert texts(files(tmp_path)) == [b"a/y.txt", b"a/z.txt", b"b.txt"]
    assert [document.where for document in read_documents(files(tmp_path))] == ["a/y.txt", "a/z.txt", "b.txt"]
    assert texts(files(tmp_path, pattern="*.txt")) == [b"b.txt"]


def test_lines_and_paragraphs_lose_their_ends_and_nothing_else(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes("\ufeffone \r\n\n  two\nthree\n \t \n\n\nfour é".encode())
    assert texts(files(path, unit="line")) == [b"one ", b"", b"  two", b"three", b" \t ", b"", b"", "four é".encode()]
    assert texts(files(path, unit="paragraph")) == [b"one ", b"  two\nthree", "four é".encode()]
    assert [found.where for found in read_documents(files(path, unit="paragraph"))][1] == "text.txt line 3"
    assert texts(files(path)) == [path.read_bytes()[3:]]


def test_json_lines_give_the_field_whatever_the_unit(tmp_path):
    path = tmp_path / "corpus.jsonl"
    lines = ['{"text": "a\\nb", "n": 1}', "", '{"n": 2, "text": "é \\ud83d\\ude00"}', '{"text": ""}']
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for unit in ("file", "line", "paragraph"):
        assert texts(files(path, unit=unit)) == [b"a\nb", "é 😀".encode(), b""]
    assert [found.where for found in read_documents(files(path))][1] == "corpus.jsonl line 3"
    path.write_text('{"body": "x"}')
    assert texts(files(path, field="body")) == [b"x"]


@pytest.mark.parametrize("unit", ["file", "line", "paragraph"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_gzipped_files_read_as_their_content(tmp_path, unit, name):
    content = b'{"text": "x"}\n\n{"text": "y"}\n'
    for folder, written in ((tmp_path / "plain", content), (tmp_path / "zipped", gzip.compress(content))):
        folder.mkdir()
        (folder / (name if folder.name == "plain" else f"{name}.gz")).write_bytes(written)
    assert texts(files(tmp_path / "plain", unit=unit)) == texts(files(tmp_path / "zipped", unit=unit))


BROKEN = {
    "text.txt": (b"fine\nbad \xff\n", "text.txt line 2 is not UTF-8 (byte 0xff at offset 4)", "pattern"),
    "a.jsonl": (b'{"text": "x"}\n{"text": \n', "a.jsonl line 2 is not JSON", "one JSON object a line"),
    "b.jsonl": (b"[1, 2]\n", "b.jsonl line 1 is a JSON list", "one JSON object a line"),
    "c.jsonl": (b'{"body": "x"}\n', "has no field 'text', its fields are 'body'", "evaluation_documents.field"),
    "d.jsonl": (b'{"text": 3}\n', "field 'text' is a int and no string", "evaluation_documents.field"),
    "e.jsonl": (b'{"text": "\\ud800"}\n', "holds half a character", "repair the line"),
    "f.jsonl": (b"[" * 100_000 + b"\n", "f.jsonl line 1 is not JSON", "one JSON object a line"),
    "g.txt.gz": (gzip.compress(b"x" * 1000)[:-10], "cannot read", "repair the file"),
    "h.txt.gz": (b"no gzip", "cannot read", "repair the file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_one_line_with_place_and_remedy(tmp_path, name):
    content, problem, remedy = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    message = refusal(files(tmp_path / name, unit="line"))
    assert problem in message
    assert remedy in message


def test_missing_paths_and_patterns_name_their_field(tmp_path):
    assert refusal(files(tmp_path / "none")).startswith("data.source.evaluation_documents.path=")
    (tmp_path / "a.txt").write_text("x")
    assert "pattern='*.md' matches no file" in refusal(files(tmp_path, pattern="*.md"))
    assert "pattern='/a*': " in refusal(files(tmp_path, pattern="/a*"))
    with pytest.raises(MissingDocumentsError):
        document_files(files(tmp_path / "none"))


def test_lines_are_streamed(tmp_path):
    path = tmp_path / "large.jsonl"
    with path.open("w") as file:
        for index in range(20_000):
            file.write(json.dumps({"text": f"{index}" * 100}) + "\n")
    assert path.stat().st_size > 8e6
    tracemalloc.start()
    count = sum(1 for _ in read_documents(files(path)))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak_bytes < 3e6


def test_the_identity_of_files_changes_with_name_size_and_time(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("x")
    os.utime(path, ns=(5, 7))
    assert document_files(files(tmp_path)) == [["a.txt", 1, 7]] == document_files(files(path))
    os.utime(path, ns=(5, 8))
    assert document_files(files(path)) == [["a.txt", 1, 8]]


def test_the_standard_library_is_documents_of_text():
    found = texts(StdlibDocuments())
    assert len(found) > 300
    assert all(text.strip() for text in found)
    assert len(set(found)) == len(found)
    assert document_files(StdlibDocuments()) == document_files(StdlibDocuments())


def test_tfds_documents_come_from_its_reader(monkeypatch):
    monkeypatch.setattr(
        "scaling.data.sources.tfds.iterate_documents",
        lambda spec, field: iter([(spec.name.encode(), field), (b"y", "z")]),
    )
    found = list(read_documents(TfdsDocuments(name="lm1b"), "data.source.evaluation_documents"))
    assert found == [(b"lm1b", "data.source.evaluation_documents"), (b"y", "z")]


def test_tfds_documents_are_known_by_version_and_split(monkeypatch, tmp_path):
    info = types.SimpleNamespace(info=types.SimpleNamespace(full_name="lm1b/1.1.0"))
    spec = TfdsDocuments(name="lm1b", split="test", data_dir=str(tmp_path))
    with pytest.raises(MissingDocumentsError, match="lm1b' is not prepared in"):
        document_files(spec)
    monkeypatch.setattr("scaling.data.sources.tfds_folders.open_dataset", lambda spec, field: info)
    assert document_files(spec) == [["lm1b/1.1.0", "test"]]


def test_real_text_splits_into_its_lines_and_paragraphs(shared_data):
    names = texts(files(shared_data / "names" / "names.txt", unit="line"))
    assert b"\n".join(names).strip() == (shared_data / "names" / "names.txt").read_bytes().strip()
    speeches = texts(files(shared_data / "tinyshakespeare" / "input.txt", unit="paragraph"))
    assert len(speeches) > 7000
    assert speeches[0].startswith(b"First Citizen:\nBefore we proceed")


def test_a_folder_that_cannot_be_read_is_refused_and_not_passed_over(tmp_path, close_folders):
    (tmp_path / "shut").mkdir()
    for name in ("a.txt", "shut/b.txt"):
        (tmp_path / name).write_text(name)
    close_folders("shut")
    assert f"cannot read {tmp_path / 'shut'} (Permission denied); make the folder readable" in refusal(files(tmp_path))
    assert texts(files(tmp_path, pattern="*.txt")) == [b"a.txt"]  # which does not reach into it
