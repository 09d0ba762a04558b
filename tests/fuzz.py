"""Files of strangers, by the thousand: whatever is in them, only the documented errors come out, soon and on one line.

    python tests/fuzz.py N [KIND ...]   N files, of all kinds or of these; prints how many were refused and how many read

The files are honest ones that were doctored: values exchanged, keys renamed, bytes flipped, ends torn off. The same N gives the same files."""
import gzip
import io
import json
import shutil
import signal
import struct
import sys
import tarfile
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from formats import CHECKPOINT, SAMPLES, configured, sample, splits
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from image_classifier.core import ArtifactError, check_manifest, ConfigError, DataError, load_tensors, MANIFEST, sha256_of
from image_classifier.data import unpack
from image_classifier.inference import Classifier
from image_classifier.models import Architecture, build_model, MODELS
from image_classifier.runs import Run, TimerCallback
from image_classifier.training import Checkpoints, fit, format_epoch, training_arguments

SAMPLE = SAMPLES[-1]

# what is in them

NUMBERS = st.integers() | st.floats() | st.sampled_from([0, -1, 1, 2, 7, 8, 10**12, 2**31, 2**63, 2**64, 10**400, -0.0, 0.5, 1e-320, 1e308, float("inf"), float("nan"), True])
WORDS = st.sampled_from(["", "format", "step", "F32", "I64", "resnet18", "vit_h_14", "simple_cnn", "timm", "auto", "__metadata__",
                         "../x", "a" * 300, "\x1b[31m", "\u202e", "\ud800", "\0", "<b>"])
DEPTHS = (30, 900, 985, 100_000)
SCALARS = st.none() | st.booleans() | NUMBERS | WORDS | st.text(max_size=8) | st.sampled_from(DEPTHS).map(lambda depth: Deep(depth))
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=4), max_leaves=8)


class Shown(bytes):
    "Bytes of which a failing test shows the first."
    def __repr__(self):
        return f"{len(self)} bytes {bytes(self[:400])!r}"


class Deep(str):
    "Stands for lists in lists, which cannot be made as values to be written."
    def __new__(cls, depth):
        return super().__new__(cls, f"@{depth}@")

    def __deepcopy__(self, memory):
        return self


def as_json(value):
    "The text of a value, with what only hostile texts hold."
    text = json.dumps(value)
    for depth in DEPTHS:
        text = text.replace(f'"@{depth}@"', "[" * depth + "]" * depth)
    return text.encode()


def places(value):
    "Every place in a value that something else could be put: (container, key)."
    for key in (value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()):
        yield value, key
        yield from places(value[key])


@st.composite
def doctored(draw, document):
    "An honest value in which one to three things are not."
    box = [deepcopy(document)]
    for _ in range(draw(st.integers(1, 3))):
        found = list(places(box))
        container, key = found[draw(st.integers(0, len(found) - 1))]
        change = draw(st.sampled_from(["value", "value", "value", "number", "other", "gone", "more"]))
        if change == "value":
            container[key] = draw(VALUES)
        elif change == "number":
            container[key] = draw(NUMBERS)
        elif change == "other":
            other, name = found[draw(st.integers(0, len(found) - 1))]
            container[key] = deepcopy(other[name])
        elif change == "gone" and container is not box:
            del container[key]
        elif isinstance(container, dict):
            container[draw(WORDS)] = draw(VALUES)
        else:
            container.append(draw(VALUES))
    return box[0]


@st.composite
def torn(draw, data):
    "Honest bytes in which one to three are not."
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, max(0, len(data) - 1)))
        end = min(len(data), start + draw(st.sampled_from([1, 1, 2, 4, 16, 1000])))
        change = draw(st.sampled_from(["bit", "bytes", "gone", "twice", "zero", "cut"]))
        if change == "cut":
            data = data[:start]
        elif change == "bit":
            flipped = [byte ^ 1 << draw(st.integers(0, 7)) for byte in data[start:start + 1]]
            data = data[:start] + bytes(flipped) + data[start + 1:]
        else:
            new = draw(st.binary(max_size=8)) if change == "bytes" else {"gone": b"", "twice": data[start:end] * 2, "zero": bytes(end - start)}[change]
            data = data[:start] + new + data[end:]
    return data


@st.composite
def json_files(draw, document):
    "A JSON file, doctored in what it says, or torn."
    kind = draw(st.sampled_from(["doctored"] * 6 + ["torn", "torn", "any", "bytes"]))
    if kind == "doctored":
        return as_json(draw(doctored(document)))
    return draw({"torn": torn(as_json(document)), "any": VALUES.map(as_json), "bytes": st.binary(max_size=64)}[kind])


@st.composite
def weight_files(draw):
    "A safetensors file: a header that lies, the wrong length of one, bytes too few or too many."
    data = (SAMPLE / "classifier" / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    if draw(st.integers(0, 3)) == 0:
        return draw(torn(data))
    header = draw(json_files(json.loads(data[8:8 + length])))
    told = draw(st.sampled_from([len(header)] * 9 + [0, 1, len(header) + 1, 1 << 20, 1 << 63]))
    return struct.pack("<Q", told) + header + draw(st.sampled_from([data[8 + length:]] * 5 + [b"", bytes(4), data]))


NAMES = st.sampled_from([*["a", "b", "c", "a/b", "a/c", "./d", "e//f"] * 4, "A", ".", "", "/", "..", "../x", "/etc/x", "C:x", "a\\b", "a\0b", "x" * 256, "x/" * 600,
                         "\u00e9", "e\u0301", "-rf", "a/", "\n"]) | st.text(st.characters(codec="utf-8"), max_size=6)
TYPES = st.sampled_from([*[tarfile.REGTYPE, tarfile.DIRTYPE] * 6, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE,
                         tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE, b"Z"])
CONTENTS = st.sampled_from([b"", b"x", bytes(600), bytes(3_000_000)]) | st.binary(max_size=40)
NOTES = st.dictionaries(st.sampled_from(["size", "path", "mtime", "GNU.sparse.major", "GNU.sparse.map", "GNU.sparse.size"]),
                        st.sampled_from(["1", "0,1", "x", "-1", "1e400", str(1 << 60)]), max_size=2)


@st.composite
def tars(draw):
    "A tar archive, perhaps with links, devices, sizes that are not true and notes that contradict them."
    with tarfile.open(fileobj=(file := io.BytesIO()), mode="w", format=draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))) as made:
        for name, kind, data in draw(st.lists(st.tuples(NAMES, TYPES, CONTENTS), min_size=1, max_size=4)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.size = kind, len(data)
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                entry.linkname = draw(NAMES)
            if draw(st.integers(0, 9)) == 0:
                entry.size, entry.pax_headers = draw(st.sampled_from([0, 1, 1 << 60])), draw(NOTES)
            if entry.isreg() and entry.size > len(data):  # a header alone, which Python 3.13 refuses to write
                made.offset += made.fileobj.write(entry.tobuf(made.format))
            else:
                made.addfile(entry, io.BytesIO(data) if entry.isreg() else None)
    return gzip.compress(file.getvalue(), mtime=0) if draw(st.booleans()) else file.getvalue()


@st.composite
def zips(draw):
    "A zip archive, perhaps with links, devices and uncommon compression."
    with warnings.catch_warnings(), zipfile.ZipFile(file := io.BytesIO(), "w") as made:
        warnings.simplefilter("ignore")
        for name, data in draw(st.lists(st.tuples(NAMES, CONTENTS), min_size=1, max_size=4)):
            entry = zipfile.ZipInfo(name or "x")
            entry.compress_type = draw(st.sampled_from([*[zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED] * 4, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]))
            entry.external_attr = draw(st.sampled_from([0, 0, 0o100644 << 16, 0o100644 << 16, 0o120777 << 16, 0o020777 << 16, 0xFFFFFFFF]))
            made.writestr(entry, data)
    return file.getvalue()


@st.composite
def archives(draw):
    "A tar or zip archive with what nobody packs, sound or torn."
    data = draw(tars() | zips())
    return draw(torn(data)) if draw(st.booleans()) else data


# what reads them


def put(folder, name, data):
    "Write a file of a folder, with a manifest that fits it."
    (folder / name).write_bytes(data)
    files = {path.name: {"size": path.stat().st_size, "sha256": sha256_of(path)} for path in folder.iterdir() if path.name != MANIFEST}
    (folder / MANIFEST).write_text(json.dumps({"format": 1, "files": files}))


def copied(name, place):
    if not (folder := place / name).exists():
        shutil.copytree(SAMPLE / name, folder)
    return folder


def read_weights(data, place):
    (place / "weights").write_bytes(data)
    load_tensors(place / "weights")


def read_manifest(data, place):
    folder = copied("classifier", place)
    (folder / MANIFEST).write_bytes(data)
    check_manifest(folder)


def read_classifier(data, place):
    put(folder := copied("classifier", place), "classifier.json", data)
    found = Classifier.load(folder)
    found.predict(np.zeros((8, 8), np.uint8))
    repr(found)


def read_measures(data, place):
    put(folder := copied("classifier", place), "metrics.json", data)
    Classifier.load(folder)


@cache
def state():
    return splits(), configured("allow=[change]")


def read_state(data, place):
    "Also goes on with the training where it can be."
    store = Checkpoints(copied("checkpoints", place))
    store.duration = float("inf")  # nothing is saved
    put(store.folder / CHECKPOINT, "state.json", data)
    splits, config = state()
    fit(build_model(Architecture("sample", 1, 10, 8)), splits, **training_arguments(config), callbacks=[TimerCallback()], checkpoints=store)


def read_history(data, place):
    (place / "history.jsonl").write_bytes(data)
    for result in (found := Run(place).history):
        format_epoch(result)
    found.epochs_since_best(), found._repr_html_()


def read_archive(data, place):
    (place / "archive").write_bytes(data)
    try:
        unpack(place / "archive", place / "inside")
    finally:
        beside = {path.name for path in place.iterdir()}
        links = [path for path in (place / "inside").rglob("*") if not (path.is_file() or path.is_dir()) or path.is_symlink()]
        shutil.rmtree(place / "inside", ignore_errors=True)
        assert beside <= {"archive", "inside"} and not links


class Kind(NamedTuple):
    "Files of one kind."
    share: int  # of all files
    honest: bytes
    files: st.SearchStrategy
    reader: Callable[[bytes, Path], None]
    errors: type | tuple[type, ...]  # what may come out


def json_kind(share, path, reader, errors=ArtifactError):
    return Kind(share, (SAMPLE / path).read_bytes(), json_files(json.loads((SAMPLE / path).read_text())), reader, errors)


def packed():
    "A zip archive of one picture."
    with zipfile.ZipFile(file := io.BytesIO(), "w") as made:
        made.writestr("cat/1.png", b"a cat")
    return file.getvalue()


ROWS = [{**json.loads((SAMPLE / "checkpoints" / CHECKPOINT / "state.json").read_text())["history"][0], "epoch": epoch} for epoch in (1, 2)]
KINDS = {
    "weights": Kind(5, (SAMPLE / "classifier" / "model.safetensors").read_bytes(), weight_files(), read_weights, ArtifactError),
    "manifest": json_kind(3, f"classifier/{MANIFEST}", read_manifest),
    "classifier": json_kind(4, "classifier/classifier.json", read_classifier),
    "measures": json_kind(1, "classifier/metrics.json", read_measures),
    "state": json_kind(2, f"checkpoints/{CHECKPOINT}/state.json", read_state, (ArtifactError, ConfigError, DataError)),
    "history": Kind(3, b"\n".join(map(as_json, ROWS)), st.tuples(*map(json_files, ROWS)).map(b"\n".join), read_history, ArtifactError),
    "archive": Kind(2, packed(), archives(), read_archive, DataError),
}


@contextmanager
def soon(work=5, waiting=60):
    "Fails what takes longer than so many seconds."
    def late(*_):
        raise AssertionError("not done in time")
    timers = [(signal.ITIMER_PROF, signal.SIGPROF, work), (signal.ITIMER_REAL, signal.SIGALRM, waiting)]
    before = [signal.signal(number, late) for _, number, _ in timers]
    for timer, _, seconds in timers:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for (timer, number, _), handler in zip(timers, before):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


def read_some(kind, number, first, place):
    "Let the reader of a kind read so many files, the same ones for the same `first`."
    counts = Counter()

    @seed(first)
    @settings(max_examples=number, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(data=kind.files.map(Shown))
    def one(data):
        with soon(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                kind.reader(data, place)
                counts["read"] += 1
            except kind.errors as problem:
                assert str(problem).isprintable(), "a message is one line of text"
                counts["refused"] += 1
    one()
    return counts


def read(name, number):
    "Let the reader of a kind read so many files; how many it read and how many it refused."
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as place:  # in parts, for what Hypothesis remembers of its files grows
            return sum((read_some(KINDS[name], min(2000, number - first), first, Path(place)) for first in range(0, number, 2000)), Counter())
    finally:
        torch.set_num_threads(threads)


def share(name, number):
    "How many of `number` files are of a kind."
    return number * KINDS[name].share // sum(kind.share for kind in KINDS.values())


if __name__ == "__main__":
    MODELS["sample"] = sample
    number, *names = sys.argv[1:]
    for name in names or KINDS:
        begun, counts = time.monotonic(), read(name, int(number) if names else share(name, int(number)))
        print(json.dumps({"kind": name, **counts, "seconds": round(time.monotonic() - begun, 1)}), flush=True)
