"""Archives: unpacked once, whole or not at all, and never outside their folder."""

import errno
import io
import os
import re
import stat
import tarfile
import zipfile

import numpy as np
import pytest

from scaling.data.sources import archives
from scaling.specs.base import InputError


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "scaling"


def refuses(message, call, *arguments, **more):
    """Checks that a call raises one line that holds the message."""
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        call(*arguments, **more)
    assert "\n" not in str(caught.value)


def left_in(cache) -> list[str]:
    """Returns what lies beside the locks in the folder of unpacked archives."""
    return [path.name for path in (cache / "archives").iterdir() if path.suffix != ".lock"]


def pack_tar(path, *members):
    """Writes a tar of (name, content) or (name, kind, target of a link); a name may be a whole TarInfo."""
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as tar:
        for name, *rest in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if len(rest) == 2:
                info.type, info.linkname = rest
                tar.addfile(info)
            else:
                info.size = len(rest[0])
                tar.addfile(info, io.BytesIO(rest[0]))
    return path


def pack_zip(path, *members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a.zip"])
def test_an_archive_is_unpacked_once(tmp_path, monkeypatch, cache, name):
    pack = pack_zip if name.endswith("zip") else pack_tar
    path = pack(tmp_path / name, ("top/x.txt", b"one"), ("top/y/z.txt", b"two"))
    folder = archives.extract(path)
    assert (folder / "top" / "x.txt").read_bytes() + (folder / "top" / "y" / "z.txt").read_bytes() == b"onetwo"
    assert cache in folder.parents
    monkeypatch.setattr(archives, "_unpack", None)
    assert archives.extract(path) == folder


def test_a_changed_archive_is_unpacked_anew(tmp_path):
    old = archives.extract(pack_tar(tmp_path / "a.tar", ("x", b"one")))
    new = archives.extract(pack_tar(tmp_path / "a.tar", ("x", b"two" * 9999)))
    assert old != new
    assert (new / "x").read_bytes() == b"two" * 9999


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (("../evil", b""), "holds '../evil' which may lead out"),
        (("a/../../evil", b""), "holds 'a/../../evil' which may lead out"),
        (("/evil", b""), "holds '/evil' which may lead out"),
        (("C:/evil", b""), "holds 'C:/evil' which may lead out"),
        (("link", tarfile.SYMTYPE, "../.."), "holds '../..', the target of the link 'link', which may lead out"),
        (("link", tarfile.SYMTYPE, "/etc"), "holds '/etc', the target of the link 'link', which may lead out"),
        (("link", tarfile.LNKTYPE, "../x"), "holds '../x', the target of the link 'link', which may lead out"),
        (("tty", tarfile.CHRTYPE, ""), "holds 'tty', which is neither file nor folder"),
        (("pipe", tarfile.FIFOTYPE, ""), "holds 'pipe', which is neither file nor folder"),
    ],
)
def test_a_malicious_tar_is_refused_and_leaves_nothing(tmp_path, cache, member, message):
    path = pack_tar(tmp_path / "a.tar", ("good", b"1"), member)
    refuses(message, archives.extract, path)
    assert left_in(cache) == []
    assert {entry.name for entry in tmp_path.iterdir()} == {"a.tar", "cache"}


@pytest.mark.parametrize("name", ["../evil", "/evil", "a\\..\\..\\evil", "C:\\evil"])
def test_a_malicious_zip_is_refused_and_leaves_nothing(tmp_path, cache, name):
    path = pack_zip(tmp_path / "a.zip", ("good", b"1"), (name, b"2"))
    refuses("which may lead out of its folder", archives.extract, path)
    assert left_in(cache) == []


def test_a_link_in_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    refuses("holds 'link', a link", archives.extract, pack_zip(tmp_path / "a.zip", (info, b"/etc/passwd")))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_that_stays_inside_is_kept(tmp_path, kind):
    path = pack_tar(tmp_path / "a.tar", ("a/x", b"1"), ("y", kind, "a/x"))
    folder = archives.extract(path)
    assert (folder / "y").read_bytes() == b"1"
    (folder / "a" / "x").write_bytes(b"2")
    assert (folder / "y").read_bytes() == b"2"


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE])
def test_neither_owners_nor_modes_are_taken_over(tmp_path, kind):
    info = tarfile.TarInfo("x")
    info.type, info.mode, info.uid, info.gid, info.uname = kind, 0o6777, 54321, 54321, "nobody"
    status = (archives.extract(pack_tar(tmp_path / "a.tar", (info, b""))) / "x").stat()
    assert (status.st_uid, status.st_gid) == (os.getuid(), os.getgid())
    usual = tmp_path / "usual"
    usual.mkdir() if kind == tarfile.DIRTYPE else usual.touch()
    assert status.st_mode == usual.stat().st_mode


def test_a_hard_link_cannot_bring_a_mode_back(tmp_path):
    # The second d/x, written through a link, makes the first one's place dangle: what `tarfile` does then is to unpack
    # the first one anew under the name of the hard link, with all that it says of itself.
    info = tarfile.TarInfo("d/x")
    info.mode = 0o4755
    members = (info, b"1"), ("s", tarfile.SYMTYPE, "d"), ("s/x", tarfile.SYMTYPE, "y"), ("h", tarfile.LNKTYPE, "d/x")
    folder = archives.extract(pack_tar(tmp_path / "a.tar", *members))
    assert all(not path.lstat().st_mode & stat.S_ISUID for path in folder.rglob("*"))


def test_a_name_that_comes_twice_is_its_last_and_not_written_through_a_link(tmp_path):
    members = ("x", b"1"), ("y", tarfile.SYMTYPE, "x"), ("y", b"3"), ("y", b"2")
    folder = archives.extract(pack_tar(tmp_path / "a.tar", *members))
    assert [(folder / name).read_bytes() for name in "xy"] == [b"1", b"2"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("h", tarfile.LNKTYPE, "missing")], "No such file or directory: 'missing'"),
        ([("a", b"1"), ("a/b", b"2")], "File exists: 'a'"),
        ([("a/b", b"1"), ("a", b"2")], "Is a directory: 'a'"),
        ([("s", tarfile.SYMTYPE, "s"), ("s/x", b"1")], "File exists: 's'"),
        ([("n" * 300, b"1")], "File name too long: 'nnn"),
    ],
)
def test_a_tar_whose_members_contradict_each_other_is_refused(tmp_path, cache, members, message):
    path = pack_tar(tmp_path / "a.tar", *members)
    refuses(f"is no whole archive ({message}", archives.extract, path)
    assert left_in(cache) == []


@pytest.mark.parametrize("field", ["path", "linkpath"])
def test_a_name_that_no_file_can_have_is_refused(tmp_path, field):
    info = tarfile.TarInfo("x")
    info.type, info.pax_headers = tarfile.SYMTYPE, {field: "a\0b"}
    refuses(
        r"is no whole archive (no file can be called 'a\x00b')",
        archives.extract,
        pack_tar(tmp_path / "a.tar", (info, b"")),
    )


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar", "a.zip"])
def test_a_damaged_archive_is_refused_and_leaves_nothing(tmp_path, cache, name):
    noise = np.random.default_rng(0).bytes(100_000)
    path = (pack_zip if name == "a.zip" else pack_tar)(tmp_path / name, ("x", noise), ("y", noise))
    for content in (path.read_bytes()[:50_000], b"nonsense"):
        path.write_bytes(content)
        refuses("is no whole archive", archives.extract, path)
        assert left_in(cache) == []


def test_a_full_disk_is_named(tmp_path, monkeypatch, cache):
    def fill(path, folder, where):
        (folder / "half").write_bytes(b"1")
        raise OSError(errno.ENOSPC, "No space left on device")

    path = pack_tar(tmp_path / "a.tar", ("x", b"1"))
    monkeypatch.setattr(archives, "_unpack", fill)
    refuses(f"does not fit into {cache / 'archives'}: no space is left", archives.extract, path)
    assert left_in(cache) == []


def test_what_a_killed_run_has_left_is_removed(tmp_path, cache):
    path = pack_tar(tmp_path / "a.tar", ("x", b"1"))
    folder = archives.extract(path)
    folder.rename(folder.with_name(f"{folder.name}.partial"))
    (folder.with_name(f"{folder.name}.partial") / "half").write_bytes(b"1")
    assert [entry.name for entry in archives.extract(path).iterdir()] == ["x"]
    assert left_in(cache) == [folder.name]
