"""Claims about content: packed files are the same files, and a broken one is named with what it is."""

from __future__ import annotations

import bz2
import gzip
import lzma

import pyarrow as pa
import pytest
from etils import epath

from analysis.errors import AnalysisError
from analysis.tables.files.content import split_name
from analysis.tables.files.reading import read_files


def pack_zstd(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": pack_zstd}


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("name", ["t.csv", "T.CSV"])
def test_a_packed_file_is_the_same_table(read, packing, name):
    packed = PACKERS[packing](b"N,loss\n1,2.5\n")
    assert read(name + packing.upper(), packed)[0] == {"N": [1], "loss": [2.5]}


@pytest.mark.parametrize("packing", PACKERS)
def test_a_packed_file_that_was_cut_off_is_no_shorter_table(read, packing):
    packed = PACKERS[packing](b"".join(b"%d,2.5\n" % i for i in range(1000)))
    for cut in [2, len(packed) // 2, len(packed) - 3]:
        with pytest.raises(AnalysisError, match=rf"is no readable {packing} file \(.*\); write it again"):
            read("t.csv" + packing, packed[:cut])


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("t.csv", b"PK\x03\x04\x00\x00", "Excel"),
        ("t.csv", gzip.compress(b"a,b\n1,2\n", mtime=0), "gzip"),
        ("t.xlsx", b"PAR1aaaaPAR1", "Parquet"),
        ("t.parquet", b"PK\x03\x04" + bytes(20), "Excel"),
        ("t.csv.gz", b"BZh9aaa", "bzip2"),
        ("t.json", b"PAR1\x00", "Parquet"),
    ],
)
def test_a_wrong_suffix_is_named(read, name, content, kind):
    with pytest.raises(AnalysisError, match=f"its content is that of .*{kind}"):
        read(name, content)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt", "t.json", "t.jsonl"])
@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf", bytes(range(256)), b"\xff\xfea"])
def test_nothing_and_junk_are_errors(read, name, content):
    with pytest.raises(AnalysisError, match=r"is no readable \.\w+ file"):
        read(name, content)


def test_folders_and_files_that_may_not_be_read_are_errors(tmp_path, monkeypatch):
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(AnalysisError, match=r"d\.csv' is a folder; give its files, like '.*/\*\.csv'$"):
        read_files([str(tmp_path / "d.csv")])
    (tmp_path / "t.csv").write_text("a\n1\n")

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(epath.Path(tmp_path)), "read_bytes", refuse)
    with pytest.raises(AnalysisError, match=r"cannot be read \(.*Permission denied\); check its permissions"):
        read_files([str(tmp_path / "t.csv")])


def test_a_suffix_is_told_from_a_name_with_points():
    assert split_name("runs/lr0.1.csv.GZ") == ("lr0.1", ".csv", ".gz")
    assert split_name("runs/lr0.1") == ("lr0.1", "", "")
