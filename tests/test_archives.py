"Unpacking an untrusted archive creates files below one folder, all of them or none."
import io
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import time
import warnings
import zipfile
from pathlib import Path

import pytest
from folders import folder, pets, refused  # noqa: F401

from image_classifier.cli import main
from image_classifier.config import compose, DataConfig
from image_classifier.core import DataError, MARKER
from image_classifier.data import archives, ArchiveLimits, load_data, unpack, unpack_cached, unpack_if_archive


def info(name, kind=tarfile.REGTYPE, **fields):
    "The header of a tar member."
    header = tarfile.TarInfo(name)
    header.type = kind
    for field, value in fields.items():
        setattr(header, field, value)
    return header


def tar(path, *members, mode="w", data=b""):
    "Write a tar archive of members with the same content and return its path."
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            member.size = len(data) if member.isreg() and not member.size else member.size
            archive.addfile(member, io.BytesIO(data) if member.isreg() else None)
    return path


def zipped(path, *members, **fields):
    "Write a zip archive of (name, bytes) and return its path; fields are set on each entry."
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")
        for name, data in members:
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            for field, value in fields.items():
                setattr(entry, field, value)
            archive.writestr(entry, data)
    return path


def oversized_pax_header(path):
    "Write a tar header that claims to be four gigabytes long."
    header = info("x", tarfile.XHDTYPE).tobuf(tarfile.USTAR_FORMAT)
    size = b"%011o\0" % (4 << 30)
    header = header[:124] + size + b" " * 8 + header[156:]
    path.write_bytes(header[:148] + b"%06o\0 " % sum(header[:512]) + header[156:512] + bytes(1 << 22))
    return path


def million_entries(path):
    "Write a zip whose central directory claims a million entries."
    zipped(path, ("a", b"x"))
    data = path.read_bytes()
    end = data.rindex(b"PK\5\6")
    path.write_bytes(data[:end + 8] + struct.pack("<HHI", 0xFFFF, 0xFFFF, 0xFFFFFFFF) + data[end + 16:])
    return path


def entry_before_the_file(path):
    "Write a zip whose central directory places the first entry before the start of the file."
    zipped(path, ("a", b"x"))
    data = path.read_bytes()
    end = data.rindex(b"PK\5\6")
    path.write_bytes(data[:end + 16] + struct.pack("<I", 1000) + data[end + 20:])
    return path


def nameless(path):
    "Write a zip whose only entry has an extra field of one byte in place of a name of one letter."
    data = bytearray(zipped(path, ("a", b"x")).read_bytes())
    for start in (26, data.index(b"PK\1\2") + 28):
        data[start:start + 4] = struct.pack("<HH", 0, 1)
    path.write_bytes(data)
    return path


HOSTILE = {
    "parent": lambda p: tar(p, info("../outside"), data=b"x"),
    "parent inside": lambda p: tar(p, info("a/../../outside"), data=b"x"),
    "absolute": lambda p: tar(p, info("/tmp/ic_outside"), data=b"x"),
    "backslash": lambda p: tar(p, info("..\\outside"), data=b"x"),
    "drive": lambda p: tar(p, info("C:outside"), data=b"x"),
    "symlink": lambda p: tar(p, info("a", tarfile.SYMTYPE, linkname="/etc"), info("a/passwd"), data=b"x"),
    "hardlink": lambda p: tar(p, info("a", tarfile.LNKTYPE, linkname="/etc/passwd")),
    "hardlink to a symlink": lambda p: tar(p, info("a", tarfile.SYMTYPE, linkname=".."),
                                           info("b", tarfile.LNKTYPE, linkname="a/x")),
    "device": lambda p: tar(p, info("a", tarfile.CHRTYPE, devmajor=1, devminor=3)),
    "pipe": lambda p: tar(p, info("a", tarfile.FIFOTYPE)),
    "composed letters": lambda p: tar(p, info("caf\u00e9"), info("cafe\u0301"), data=b"x"),
    "twice": lambda p: tar(p, info("a"), info("a"), data=b"x"),
    "file as folder": lambda p: tar(p, info("a"), info("a/b"), data=b"x"),
    "folder as file": lambda p: tar(p, info("a/b"), info("a"), data=b"x"),
    "long name": lambda p: tar(p, info("x" * 300), data=b"x"),
    "long path": lambda p: tar(p, info("/".join(["x" * 200] * 6)[1:]), data=b"x"),
    "bomb": lambda p: tar(p, info("zeros"), mode="w:gz", data=bytes(30_000_000)),
    "bomb of a header": oversized_pax_header,
    "exabyte in place of the top folder": lambda p: p.write_bytes(
        info(".", size=1 << 60).tobuf(tarfile.GNU_FORMAT) + bytes(10_240)) and p,
    "empty": lambda p: tar(p),
    "folders only": lambda p: tar(p, info("a", tarfile.DIRTYPE), info("b", tarfile.DIRTYPE)),
    "not a tar": lambda p: p.write_bytes(b"\x1f\x8b" + bytes(100)) and p,
    "zip parent": lambda p: zipped(p, ("../outside", b"x")),
    "zip absolute": lambda p: zipped(p, ("/tmp/ic_outside", b"x")),
    "zip symlink": lambda p: zipped(p, ("a", b"/etc/passwd"), external_attr=0o120777 << 16),
    "zip device": lambda p: zipped(p, ("a", b""), external_attr=0o020777 << 16),
    "zip twice": lambda p: zipped(p, ("a", b"x"), ("a", b"y")),
    "zip bomb": lambda p: zipped(p, ("zeros", bytes(30_000_000))),
    "zip of a million entries": million_entries,
    "zip entry before the file": entry_before_the_file,
    "zip without a name": nameless,
    "zip of lzma": lambda p: zipped(p, ("a", b"x" * 1000), compress_type=zipfile.ZIP_LZMA),
    "zip of bzip2": lambda p: zipped(p, ("a", b"x" * 1000), compress_type=zipfile.ZIP_BZIP2),
    "not a zip": lambda p: p.write_bytes(b"PK\3\4<html>") and p,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archive_is_refused_and_leaves_nothing(kind, tmp_path):
    archive = HOSTILE[kind](tmp_path / "hostile")
    started = time.monotonic()
    with pytest.raises(DataError) as caught:
        unpack(archive, tmp_path / "inside")
    assert time.monotonic() - started < 5 and "\n" not in str(caught.value) and "hostile" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["hostile"] and not Path("/tmp/ic_outside").exists()


CASE = {"case": lambda p: tar(p, info("cat/1.png"), info("Cat/1.PNG"), data=b"x"), "zip case": lambda p: zipped(p, ("a", b"x"), ("A", b"y"))}


@pytest.mark.parametrize("kind", CASE)
def test_names_that_differ_in_case_are_refused_only_where_the_file_system_ignores_case(kind, tmp_path, monkeypatch):
    archive = CASE[kind](tmp_path / "hostile")
    unpack(archive, tmp_path / "inside")
    assert len([path for path in (tmp_path / "inside").rglob("*") if path.is_file()]) == 2
    monkeypatch.setattr(archives, "_ignores_case", lambda folder: True)
    with pytest.raises(DataError, match="two entries for one path"):
        unpack(archive, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("make", [lambda p: tar(p, *(info(f"{i}") for i in range(12)), data=b"x"),
                                  lambda p: zipped(p, *((f"{i}", b"x") for i in range(12)))])
def test_file_count_and_total_size_are_limited(make, tmp_path):
    archive = make(tmp_path / "many")
    for limits, line in [(ArchiveLimits(files=11), "more than 11 entries"),
                         (ArchiveLimits(size=11), "unpacks to more than 11 bytes")]:
        with pytest.raises(DataError, match=line):
            unpack(archive, tmp_path / "inside", limits)
    assert len(list(unpack(archive, tmp_path / "inside", ArchiveLimits(files=12, size=12)).iterdir())) == 12


def test_damaged_archive_is_unpacked_or_refused_and_raises_nothing_else(tmp_path):
    rng = random.Random(42)
    for make in (lambda p: tar(p, *(info(f"d/{i}") for i in range(5)), mode="w:gz", data=os.urandom(500)),
                 lambda p: tar(p, info("d/1"), data=b"x" * 900),
                 lambda p: zipped(p, *((f"d/{i}", os.urandom(500)) for i in range(5)))):
        sound = make(tmp_path / "archive").read_bytes()
        for number in range(150):
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
            position = rng.randrange(len(sound))
            flipped = bytes([sound[position] ^ 1 << rng.randrange(8)]) + sound[position + 1:]
            (tmp_path / "archive").write_bytes(sound[:position] + (b"" if number % 3 == 0 else flipped))
            try:
                unpack(tmp_path / "archive", tmp_path / "out")
            except DataError:
                assert not (tmp_path / "out").exists()
        assert not list(tmp_path.glob(".*"))


# archives as data sets


def packed(source, path):
    if path.suffix == ".zip":
        files = sorted(source.rglob("*.png"))
        return zipped(path, *((str(file.relative_to(source.parent)), file.read_bytes()) for file in files))
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        archive.add(source, source.name)
    return path


@pytest.mark.parametrize("name", ["pets.zip", "pets.tar", "pets.tar.gz"])
def test_archive_gives_the_same_data_as_its_folder(name, pets, tmp_path, monkeypatch):
    (tmp_path / "archives").mkdir()
    path = packed(pets, tmp_path / "archives" / name)
    config = folder(path, cache_dir=str(tmp_path / "cache"))
    assert load_data(config).fingerprint == load_data(folder(pets)).fingerprint
    monkeypatch.setattr(tarfile, "open", None)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    assert load_data(config).classes == ("cat", "dog"), "unpacked twice"
    assert compose([f"data={path}"]).data.name == "folder"


def test_command_trains_on_an_archive_and_refuses_a_hostile_one(pets, tmp_path, capsys):
    words = ["train", "epochs=1", "batch_size=8", f"data.cache_dir={tmp_path / 'cache'}", "--out", str(tmp_path / "run")]
    assert main([*words, f"data={HOSTILE['symlink'](tmp_path / 'bad.tar')}"]) == 3
    assert capsys.readouterr().err.startswith("error: neither a file nor a folder: a (")
    assert main([*words, f"data={packed(pets, tmp_path / 'pets.zip')}"]) == 0


def test_csv_table_in_an_archive_is_read(pets, tmp_path):
    rows = ["file,label"] + [f"{file.relative_to(pets)},{file.parent.name}" for file in sorted(pets.rglob("*.png"))]
    (pets / "labels.csv").write_text("\n".join(rows))
    with tarfile.open(tmp_path / "pets.tar", "w") as archive:
        archive.add(pets, "pets")
    packed, plain = (DataConfig("csv", str(root), cache_dir=str(tmp_path / "cache")) for root in (tmp_path / "pets.tar", pets))
    assert load_data(packed).fingerprint == load_data(plain).fingerprint


def test_file_that_is_not_an_archive_is_refused_as_such(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    refused(tmp_path / "notes.txt", "not a folder of images nor a .zip, .tar or .tar.gz")


UNPACK = """
import pathlib, sys
from image_classifier.data import unpack_cached
print("on", flush=True)
unpack_cached(sys.argv[1], pathlib.Path(sys.argv[2]))
"""


def test_unpacking_after_a_kill_gives_the_whole_content(tmp_path):
    "Twenty kills at random moments."
    path = zipped(tmp_path / "data.zip", *((f"d/{i}.bin", os.urandom(20_000)) for i in range(200)))
    whole = {file.name: file.read_bytes() for file in unpack(path, tmp_path / "whole").rglob("*.bin")}
    started = time.monotonic()
    unpack_cached(path, tmp_path / "warm")
    length, rng, killed = time.monotonic() - started, random.Random(42), 0
    for _ in range(20):
        child = subprocess.Popen([sys.executable, "-c", UNPACK, str(path), str(tmp_path / "cache")], stdout=subprocess.PIPE)
        child.stdout.readline()
        time.sleep(rng.uniform(0, length))
        child.kill()
        killed += child.wait() == -signal.SIGKILL
        child.stdout.close()
        for found in filter(Path.is_dir, (tmp_path / "cache").glob("[0-9a-f]*")):
            assert {file.name: file.read_bytes() for file in found.rglob("*.bin")} == whole
            for file in found.rglob("*.bin"):
                file.unlink()
            (found / "d").rmdir(), found.rmdir()
    assert killed > 5
    inside = unpack_if_archive(path, tmp_path)
    assert {file.name: file.read_bytes() for file in inside.rglob("*.bin")} == whole
    unpack_cached(path, tmp_path / "cache")
    assert [file.name for file in (tmp_path / "cache").glob(".*")] == [MARKER]
