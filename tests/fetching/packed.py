"""Archives for tests, with any names and members."""

import io
import tarfile
import zipfile


def tar_of(path, files, links=(), mode="w:gz"):
    """A tar of files (name -> bytes) and of other members (name, type, target)."""
    with tarfile.open(path, mode) as archive:
        for name, body in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
        for name, kind, goal in links:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, goal
            archive.addfile(entry)
    return path


def zip_of(path, files):
    """A zip of files: name -> bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return path
