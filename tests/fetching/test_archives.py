"""Archives from elsewhere: what comes out of them, and what is refused. Real zip and tar files."""

import stat
import struct
import tarfile
import zipfile

import pytest

from discern.errors import DiscernError
from discern.fetching import archives
from discern.fetching.archives import extract_members, is_archive, unpack
from tests.fetching.packed import tar_of, zip_of

CONTENT = bytes(range(256)) * 4000


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refusal(archive, tmp_path):
    with pytest.raises(DiscernError) as caught:
        unpack(archive, tmp_path / "in" / "out")
    assert str(archive) in str(caught.value)
    assert {p.name for p in tmp_path.iterdir()} <= {archive.name, "in"}  # nothing got out
    return str(caught.value)


# --------------------------------------------------------------------------- what comes out


@pytest.mark.parametrize(
    ("name", "mode"), [("x.tar", "w"), ("x.tgz", "w:gz"), ("x.tar.bz2", "w:bz2"), ("x.TAR.XZ", "w:xz")]
)
def test_every_kind_of_tar_is_unpacked(tmp_path, name, mode):
    files = {"./top/a (1).png": b"1", "top/deep/B.PNG": b"2", "top/b.png": b"", "top/B.png": b"3"}
    path = tar_of(tmp_path / name, files, [("top/deep", tarfile.DIRTYPE, "")], mode)
    assert is_archive(path)
    assert {p.name for p in unpack(path, tmp_path / "out")} == {"a (1).png", "B.PNG", "b.png", "B.png"}
    assert tree(tmp_path / "out") == {
        "top/a (1).png": b"1", "top/deep/B.PNG": b"2", "top/b.png": b"", "top/B.png": b"3",
    }  # fmt: skip


def test_npz_and_nifti_files_are_no_archives(tmp_path):
    names = ("a.npz", "a.nii.gz", "a.csv.gz", "a.7z", "a.parquet")
    assert not any(is_archive(tmp_path / name) for name in names)


def test_a_zip_made_on_windows_has_folders(tmp_path):
    path = zip_of(tmp_path / "x.zip", {"Set\\benign\\a.png": b"1", "Set\\": b"", "Set/b.png": b"2"})
    unpack(path, tmp_path / "out")
    assert tree(tmp_path / "out") == {"Set/benign/a.png": b"1", "Set/b.png": b"2"}


def test_names_that_are_not_ascii(tmp_path):
    """Marked UTF-8; UTF-8 without the mark, as many programs write it; and a tar in Latin-1."""
    path = zip_of(tmp_path / "x.zip", {"é/ö.png": b"1"})
    unpack(path, tmp_path / "out")
    raw = path.read_bytes().replace(struct.pack("<H", 0x800), struct.pack("<H", 0))
    (tmp_path / "y.zip").write_bytes(raw)
    assert not zipfile.ZipFile(tmp_path / "y.zip").infolist()[0].flag_bits & 0x800
    unpack(tmp_path / "y.zip", tmp_path / "out2")
    with tarfile.open(tmp_path / "z.tar", "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("é/ö.png"))
    unpack(tmp_path / "z.tar", tmp_path / "out3")
    assert [list(tree(tmp_path / out)) for out in ("out", "out2", "out3")] == [["é/ö.png"]] * 3


def test_members_keep_base_names_and_folders_their_tree(tmp_path):
    files = {"p/deep/b.txt": b"b", "p/folder/c.txt": b"c", "p/folder/in/d.txt": b"d", "p/e.txt": b"e"}
    archive = tar_of(tmp_path / "x.tar.gz", files)
    paths = extract_members(archive, ["p/folder/", "p/deep/b.txt"], tmp_path / "out")
    names = {p.relative_to(tmp_path / "out").as_posix(): p.read_bytes() for p in paths}
    assert names == {"b.txt": b"b", "folder/c.txt": b"c", "folder/in/d.txt": b"d"}


def test_archives_in_archives_are_not_opened(tmp_path):
    inner = zip_of(tmp_path / "inner.zip", {"a": b"1"}).read_bytes()
    unpack(zip_of(tmp_path / "x.zip", {"d/inner.zip": inner}), tmp_path / "out")
    assert tree(tmp_path / "out") == {"d/inner.zip": inner}


def test_a_big_archive_shows_its_progress(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(archives, "SHOWN_FROM", 10)
    unpack(zip_of(tmp_path / "x.zip", {"a": CONTENT}), tmp_path / "out")
    assert "unpacking x.zip: 100%" in capfd.readouterr().err


# --------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "C:evil", "C:/evil", "a/.."])
def test_nothing_leaves_the_target(tmp_path, name):
    assert "leave the target" in refusal(tar_of(tmp_path / "x.tar.gz", {"ok": b"", name: b"!"}), tmp_path)
    assert "leave the target" in refusal(zip_of(tmp_path / "x.tar.gz", {"ok": b"", name: b"!"}), tmp_path)


@pytest.mark.parametrize("name", ["..\\evil", "\\evil", "\\\\host\\evil", "a\\..\\..\\evil"])
def test_back_slashes_lead_nowhere_else(tmp_path, name):
    assert "leave the target" in refusal(zip_of(tmp_path / "x.zip", {name: b"!"}), tmp_path)
    assert "back-slash, refused" in refusal(tar_of(tmp_path / "x.zip", {name: b"!"}), tmp_path)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE], ids=lambda k: k.decode()
)
def test_links_and_devices_are_refused(tmp_path, kind):
    path = tar_of(tmp_path / "x.tar.gz", {"a": b"1"}, [("passwords", kind, "/etc/passwd")])
    assert "'passwords' is a link or device, refused" in refusal(path, tmp_path)


def test_a_link_in_a_zip_is_refused(tmp_path):
    entry = zipfile.ZipInfo("passwords")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = zip_of(tmp_path / "x.zip", {entry: "/etc/passwd"})
    assert "link or device" in refusal(path, tmp_path)


def test_an_encrypted_zip_says_what_to_do(tmp_path):
    path = zip_of(tmp_path / "x.zip", {"a": b"secret"})
    raw = bytearray(path.read_bytes())
    raw[6] |= 1  # local header
    raw[raw.index(b"PK\x01\x02") + 8] |= 1  # directory
    path.write_bytes(raw)
    assert "encrypted: unpack the archive with its password and point to the folder" in refusal(
        path, tmp_path
    )


def test_an_unknown_compression_says_what_to_do(tmp_path):
    path = zip_of(tmp_path / "x.zip", {"a": CONTENT})
    raw = bytearray(path.read_bytes())
    raw[8] = raw[raw.index(b"PK\x01\x02") + 10] = 9  # Deflate64
    path.write_bytes(raw)
    assert "unpack it with another program" in refusal(path, tmp_path)


def test_two_members_of_one_name_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a/b", "1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a/b", "2")
    assert "'a/b' and 'a/b' would both become 'a/b'" in refusal(tmp_path / "x.zip", tmp_path)
    path = zip_of(tmp_path / "x.zip", {"a/b": b"1", "a\\b": b"2"})
    assert "would both become" in refusal(path, tmp_path)


def test_a_file_that_is_also_a_folder_is_refused(tmp_path):
    path = tar_of(tmp_path / "x.tar", {"a": b"1", "a/b": b"2"})
    assert "'a' is a file, and others would lie in it" in refusal(path, tmp_path)


def test_nothing_that_is_there_is_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("mine")
    with pytest.raises(DiscernError, match="would overwrite"):
        unpack(zip_of(tmp_path / "x.zip", {"a": b"1"}), tmp_path / "out")
    assert (tmp_path / "out" / "a").read_text() == "mine"


# --------------------------------------------------------------------------- absurd and damaged ones


def test_absurd_sizes_and_numbers_are_refused(tmp_path, monkeypatch):
    path = tar_of(tmp_path / "x.tar.gz", {"a": b"x" * 11, "b": b""})
    monkeypatch.setattr(archives, "MAX_MEMBERS", 1)
    assert "more than 1 members" in refusal(path, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(archives, "MAX_UNPACKED", 10)
    assert "would unpack to 11 bytes" in refusal(path, tmp_path)


def test_a_decompression_bomb_is_refused_unopened(tmp_path, monkeypatch):
    """Eight MiB of zeros in some kB; the bound applies to real bombs, above the first GiB."""
    monkeypatch.setattr(archives, "SMALL", 2**20)
    path = zip_of(tmp_path / "x.zip", {"zeros": bytes(8 * 2**20)})
    assert path.stat().st_size < 2**16
    assert "more than 200 times as many" in refusal(path, tmp_path)
    assert not (tmp_path / "in").exists()


def test_a_zip_that_lies_about_its_size_gives_no_more(tmp_path):
    path = zip_of(tmp_path / "x.zip", {"zeros": bytes(2**20)})
    raw = bytearray(path.read_bytes())
    at = raw.index(b"PK\x01\x02") + 24
    raw[at : at + 4] = struct.pack("<I", 10)  # it says ten bytes
    path.write_bytes(raw)
    assert "damaged archive" in refusal(path, tmp_path)
    assert (tmp_path / "in" / "out" / "zeros").stat().st_size <= 10


def test_missing_and_colliding_members_are_named(tmp_path):
    archive = tar_of(tmp_path / "x.tar.gz", {"a/ct.gz": b"1", "b/ct.gz": b"2"})
    with pytest.raises(DiscernError, match="no member 'c/'"):
        extract_members(archive, ["c/"], tmp_path)
    with pytest.raises(DiscernError, match=r"'a/ct\.gz' and 'b/ct\.gz' would both become"):
        extract_members(archive, ["a/ct.gz", "b/ct.gz"], tmp_path)


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz", "w"])
def test_a_truncated_tar_is_named(tmp_path, mode):
    whole = tar_of(tmp_path / "x.tar.gz", {"a": CONTENT}, mode=mode).read_bytes()
    (tmp_path / "x.tar.gz").write_bytes(whole[: len(whole) // 2])
    assert "damaged archive" in refusal(tmp_path / "x.tar.gz", tmp_path)


def test_a_damaged_zip_is_named(tmp_path):
    whole = zip_of(tmp_path / "x.zip", {"a": CONTENT}).read_bytes()
    (tmp_path / "x.zip").write_bytes(whole[: len(whole) // 2])
    assert "damaged archive" in refusal(tmp_path / "x.zip", tmp_path)
    (tmp_path / "x.zip").write_bytes(whole[:200] + b"\0" * 20 + whole[220:])
    assert "damaged archive" in refusal(tmp_path / "x.zip", tmp_path)
    (tmp_path / "x.zip").write_text("<html>log in first</html>")
    assert "damaged archive" in refusal(tmp_path / "x.zip", tmp_path)
