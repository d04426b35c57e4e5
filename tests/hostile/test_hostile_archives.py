"""Archives that lie: what comes out lies in the target, is what the archive says, or nothing is left."""

import contextlib
import functools
import gzip
import io
import os
import struct
import tarfile
import warnings
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.errors import DiscernError
from discern.fetching.archives import extract_members, unpack
from discern.fetching.folders import replaced
from tests.hostile.bounds import guarded, scratch, tried
from tests.hostile.values import damaged, names
from tests.survived import survived

COUNT = {"tried": 0, "refused": 0}
BODIES = st.sampled_from([b"", b"x", b"abc" * 1000])
KINDS = [
    tarfile.REGTYPE,
    tarfile.AREGTYPE,
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
    tarfile.CONTTYPE,
    tarfile.GNUTYPE_SPARSE,
    b"Z",
]


def unpacked(archive, folder):
    """Unpack as the workflow does; whatever happens, nothing lies outside, and all or nothing is there."""
    COUNT["tried"] += 1
    before = outside(folder)
    done = False
    with guarded(), replaced(folder / "in" / "out") as new:
        files = unpack(archive, new)
        assert all(file.is_file() and not file.is_symlink() for file in files)
        assert all(file.resolve().is_relative_to(new.resolve()) for file in files)
        done = True
    COUNT["refused"] += not done
    assert outside(folder) == before
    left = {path.name for path in (folder / "in").iterdir()} if (folder / "in").is_dir() else set()
    assert left == ({"out"} if done else set())
    assert not any(path.is_symlink() for path in folder.rglob("*"))


def outside(folder):
    return sorted(str(path) for path in folder.rglob("*") if "in" not in path.relative_to(folder).parts[:1])


@st.composite
def tars(draw):
    """A tar of any members, with any names, links, types, modes and formats, compressed or not."""
    mode = draw(st.sampled_from(["w", "w:gz", "w:bz2", "w:xz"]))
    sink = io.BytesIO()
    form = draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT]))
    with tarfile.open(fileobj=sink, mode=mode, format=form) as archive:
        for name, link, kind, body in draw(
            st.lists(st.tuples(names, names, st.sampled_from(KINDS), BODIES), max_size=5)
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.mode = kind, link, draw(st.sampled_from([0o644, 0, 0o7777]))
            entry.size = len(body) if kind in (tarfile.REGTYPE, tarfile.AREGTYPE) else 0
            with contextlib.suppress(ValueError):  # a name that this format cannot hold
                archive.addfile(entry, io.BytesIO(body))
    return sink.getvalue()


@st.composite
def zips(draw):
    """A zip of any members, with any names, kinds, flags and methods of compression."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of equal names
        for name, body in draw(st.lists(st.tuples(names, BODIES), max_size=5)):
            entry = zipfile.ZipInfo("x")
            entry.filename = name  # a constructor would mend it
            entry.external_attr = draw(
                st.sampled_from([0, 0o120777 << 16, 0o100644 << 16, 0o020666 << 16, 0x10])
            )
            entry.compress_type = draw(
                st.sampled_from(
                    [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2]
                )
            )
            with contextlib.suppress(ValueError, struct.error):  # a name that no zip can hold
                archive.writestr(entry, body)
    return sink.getvalue()


@pytest.mark.parametrize("kind", [tars, zips])
@settings(max_examples=tried(60))
@given(data=st.data())
def test_archives_of_anything(kind, data):
    with scratch() as folder:
        archive = folder / "x.archive"
        archive.write_bytes(data.draw(kind()))
        unpacked(archive, folder)


@functools.cache
def sound(kind):
    """A real archive of each kind, of files of several sizes."""
    sink = io.BytesIO()
    files = {"set/a/1.png": os.urandom(3000), "set/b/2.png": b"x" * 5000, "set/labels.csv": b"path,label\n"}
    if kind.startswith("zip"):
        method = {"zip": zipfile.ZIP_DEFLATED, "zip:lzma": zipfile.ZIP_LZMA, "zip:bz2": zipfile.ZIP_BZIP2}[
            kind
        ]
        with zipfile.ZipFile(sink, "w", method) as archive:
            for name, body in files.items():
                archive.writestr(name, body)
    else:
        with tarfile.open(fileobj=sink, mode=f"w{kind.removeprefix('tar')}") as archive:
            for name, body in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(body)
                archive.addfile(entry, io.BytesIO(body))
    return sink.getvalue()


@pytest.mark.parametrize("kind", ["zip", "zip:lzma", "zip:bz2", "tar", "tar:gz", "tar:bz2", "tar:xz"])
@settings(max_examples=tried(30))
@given(data=st.data())
def test_damaged_archives(kind, data):
    with scratch() as folder:
        archive = folder / "x.archive"
        archive.write_bytes(data.draw(damaged(sound(kind))))
        unpacked(archive, folder)
        with guarded():
            extract_members(archive, ["set/a/", "set/labels.csv"], folder / "in" / "some")


@settings(max_examples=tried(20))
@given(member=names)
def test_members_asked_for_by_any_name(member):
    with scratch() as folder, guarded():
        archive = folder / "x.zip"
        archive.write_bytes(sound("zip"))
        extract_members(archive, [member], folder / "in")


def header(name=b"a", size=b"00000000000\0", kind=b"0", magic=b"ustar\00000", link=b""):
    """One raw header of a tar, with any fields."""
    block = bytearray(512)
    block[0 : len(name)] = name
    block[100:108], block[124:136], block[156:157] = b"0000644\0", size, kind
    block[157 : 157 + len(link)], block[257:265] = link, magic
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


LARGE = b"\x80" + (2**62).to_bytes(11, "big")
RAW = {
    "a size of exabytes": header(size=LARGE),
    "a negative size": header(size=b"\xff" * 12),
    "a size that is no number": header(size=b"zzzzzzzzzzz\0"),
    "a long name that is longer than memory": header(b"././@LongLink", LARGE, b"L"),
    "a pax header longer than memory": header(b"pax", LARGE, b"x"),
    "a pax header that is no record": header(b"pax", b"00000000020\0", b"x")
    + b"99999999999999 path=a\n".ljust(512, b"\0"),
    "a pax record that gives a size": header(b"pax", b"00000000020\0", b"x")
    + b"16 size=9999999\n".ljust(512, b"\0")
    + header(),
    "a global pax path": header(b"pax", b"00000000020\0", b"g")
    + b"20 path=../../evil\n\0".ljust(512, b"\0")
    + header(),
    "a pax path with a null": header(b"pax", b"00000000020\0", b"x")
    + b"16 path=a\0b/../c".ljust(512, b"\0")
    + header(),
    "sparse": header(kind=b"S", magic=b"ustar  \0") + bytes(512),
    "nothing but nulls": bytes(10240),
    "half a header": header()[:300],
    "many long links": header(b"././@LongLink", b"00000000001\0", b"L")
    + (b"x" + bytes(511)) * 1
    + header(b"././@LongLink", b"00000000001\0", b"L") * 3,
}
RAW |= {f"{name}, compressed": gzip.compress(body) for name, body in RAW.items()}
RAW |= {
    "a gzip bomb of one file": gzip.compress(header(size=b"77777777777\0") + bytes(30_000_000)),
    "gzip of nothing": gzip.compress(b""),
    "gzip with a wrong checksum": gzip.compress(header() + bytes(1024))[:-8] + bytes(8),
    "a deep chain of long names": b"".join(
        header(b"././@LongLink", b"00000000001\0", b"L") + b"x" + bytes(511) for _ in range(3000)
    ),
    "a deep chain of pax headers": b"".join(
        header(b"p", b"00000000011\0", b"x") + b"9 path=x\n".ljust(512, b"\0") for _ in range(3000)
    ),
}


@pytest.mark.parametrize("body", RAW.values(), ids=RAW.keys())
def test_raw_headers(body, tmp_path):
    archive = tmp_path / "x.tar"
    archive.write_bytes(body)
    unpacked(archive, tmp_path)


def test_files_that_overlap_in_a_zip(tmp_path):
    """One stream named by many entries: the classic bomb without nesting."""
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as sink:
        sink.writestr("a0", bytes(1000))
    raw = archive.read_bytes()
    central = raw.index(b"PK\x01\x02")
    entry = raw[central : raw.index(b"PK\x05\x06")]
    many = b"".join(entry.replace(b"a0", b"a%d" % i) for i in range(10))
    end = bytearray(raw[raw.index(b"PK\x05\x06") :])
    end[8:10] = end[10:12] = (10).to_bytes(2, "little")
    end[12:16] = len(many).to_bytes(4, "little")
    archive.write_bytes(raw[:central] + many + bytes(end))
    unpacked(archive, tmp_path)


def test_names_of_any_length(tmp_path):
    for name in ("a" * 256, "é" * 128, "/".join(["d" * 200] * 30)):
        for kind in ("zip", "tar"):
            archive = tmp_path / f"x.{kind}"
            if kind == "zip":
                with zipfile.ZipFile(archive, "w") as sink:
                    sink.writestr(name, b"x")
            else:
                with tarfile.open(archive, "w") as sink:
                    sink.addfile(tarfile.TarInfo(name))
            with pytest.raises(DiscernError, match="name"), replaced(tmp_path / "in") as new:
                unpack(archive, new)


def test_what_was_tried_with_archives():
    assert COUNT["tried"] == 0 or 0 < COUNT["refused"] < COUNT["tried"]
    survived("archives: hostile and damaged", tried=COUNT["tried"], losses=0)
