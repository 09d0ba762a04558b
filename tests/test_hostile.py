"Untrusted files run no code and crash nothing: thirty malformed weight files, and three hundred malformed images by every entry point."
import io
import json
import os
import pickle
import resource
import struct
import time
import warnings
import zipfile

import numpy as np
import pytest
import torch
from pictures import drawn, saved
from PIL import Image
from test_images import hand_made, mutations

from image_classifier.cli import main
from image_classifier.config import DataConfig
from image_classifier.core import ArtifactError, DataError, load_tensors, read_json, write_json, write_manifest
from image_classifier.data import DecodeError, load_data, Preprocess
from image_classifier.inference import Classifier, read_pixels
from image_classifier.models import Architecture, build_model
from image_classifier.runs import Run
from image_classifier.training import EpochResult

# weights


class Canary:
    "When unpickled, creates a folder."
    def __reduce__(self):
        return os.mkdir, ("canary",)


def tensors(header, body=b"", length=None):
    "Return a file in the layout of safetensors, valid or not."
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def one(shape=(2,), offsets=(0, 8), dtype="F32", **more):
    return {"w": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}}


def archive(name, data):
    with zipfile.ZipFile(file := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(name, data)
    return file.getvalue()


def torch_saved():
    torch.save({"w": Canary()}, file := io.BytesIO())
    return file.getvalue()


ROW = json.dumps(vars(EpochResult(1, 5, 0.1, 2.0, 0.25, 0.5, 0.75, 1.0))).encode()
BODY = bytes(8)
FILES = {
    "pickle": pickle.dumps(Canary()), "pickle of protocol 0": pickle.dumps(Canary(), 0), "torch.save": torch_saved(),
    "torch.save of old": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "zip bomb": archive("data.pkl", bytes(50_000_000)),
    "zip in a zip": archive("a.zip", archive("data.pkl", pickle.dumps(Canary()))), "empty": b"", "a byte": b"{", "text": b"not weights at all, but long enough",
    "html": b"<!DOCTYPE html><html><body>404</body></html>", "header of 101 MB": tensors(b"{}", length=101 << 20), "header of 2^63": tensors(b"{}", length=1 << 63),
    "header longer than the file": tensors(b"{}", length=1000), "not JSON": tensors(b"{'w': 1}"), "a list": tensors([1, 2]), "deep": tensors(b"[" * 100_000 + b"]" * 100_000),
    "deep objects": tensors(b'{"a":' * 100_000), "the same name twice": tensors(b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', BODY),
    "overlapping": tensors({**one(), "v": one()["w"]}, BODY), "holed": tensors({**one(), "v": one(offsets=(12, 20))["w"]}, bytes(20)),
    "out of range": tensors(one(offsets=(0, 8)), bytes(4)), "negative": tensors(one(offsets=(-8, 0)), BODY), "backwards": tensors(one(offsets=(8, 0)), BODY),
    "10^12 numbers": tensors(one(shape=(10**12,), offsets=(0, 4 * 10**12))), "shape that overflows": tensors(one(shape=(1 << 33, 1 << 33), offsets=(0, 8)), BODY),
    "negative shape": tensors(one(shape=(-1, -2)), BODY), "unknown type": tensors(one(dtype="PICKLE"), BODY), "width of another type": tensors(one(dtype="F64"), BODY),
    "bytes of no tensor": tensors(one(), bytes(100)), "infinite": tensors(one(), struct.pack("<2f", 1, float("inf"))), "not a number": tensors(one(), struct.pack("<2f", float("nan"), 1)),
    "no offsets": tensors({"w": {"dtype": "F32", "shape": [2]}}, BODY), "offsets of text": tensors({"w": {"dtype": "F32", "shape": [2], "data_offsets": ["0", "8"]}}, BODY),
    "truth values": tensors(one(shape=(True,), offsets=(0, 4)), bytes(4)),
}


def test_thirty_hostile_weight_files_are_refused_at_once_and_run_nothing(tmp_path, monkeypatch):
    assert len(FILES) >= 30
    monkeypatch.chdir(tmp_path)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number, (name, data) in enumerate(FILES.items()):
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(data)
        start = time.monotonic()
        with pytest.raises(ArtifactError) as caught:
            load_tensors(path)
        assert time.monotonic() - start < 1 and caught.value.exit_code == 4 and "\n" not in str(caught.value), name
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 200_000, "kilobytes"
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", ["m.pt", "m.pth", "m.pkl", "m.bin", "m.ckpt", "m.joblib", "m.pt2", "m.ts"])
def test_file_name_of_a_format_that_may_hold_code_is_refused(name, tmp_path):
    (tmp_path / name).write_bytes(tensors(one(), BODY))
    with pytest.raises(ArtifactError, match="never loaded|may hold code"):
        load_tensors(tmp_path / name)


# metadata


def test_metadata_of_a_huge_model_is_refused_before_it_takes_memory(classifier, tmp_path):
    "A few hundred bytes of JSON that ask for a model of three gigabytes."
    folder = classifier.save(tmp_path / "classifier")
    value = read_json(folder / "classifier.json")
    value["architecture"].update(name="regnet_y_128gf", size=224)
    write_json(folder / "classifier.json", value)
    write_manifest(folder)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ArtifactError, match="weights of another architecture"):
        Classifier.load(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 200_000, "kilobytes"


@pytest.mark.parametrize("line", [b"[" * 100_000, b"1", b"{}", b'{"epoch": 1}', ROW.replace(b"0.5", b'"low"'), ROW.replace(b"0.5", b"1e400"), ROW.replace(b"0.5", b"NaN"),
                                  ROW.replace(b"0.5", b"1" + b"0" * 400), ROW[:-1], ROW + ROW, b"\xff"])
def test_invalid_history_is_refused(line, tmp_path):
    (tmp_path / "history.jsonl").write_bytes(ROW)
    assert Run(tmp_path).history.best.valid_loss == 0.5
    (tmp_path / "history.jsonl").write_bytes(ROW + b"\n" + line)
    with pytest.raises(ArtifactError, match="history.jsonl, line 2 is not an epoch: .*restore the file"):
        _ = Run(tmp_path).history


# images


@pytest.fixture(scope="module")
def classifier():
    model = build_model(Architecture("simple_cnn", channels=3, classes=2, size=8), seed=1)
    return Classifier(model, Preprocess(8, 3, "crop", (0.5,) * 3, (0.2,) * 3), ("cat", "dog"))


def test_three_hundred_malformed_images_by_every_entry_point(classifier, tmp_path, capsys):
    "A training folder, `ic predict` and Python agree on which can be read; nothing crashes or hangs."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        files = [data for data, _ in hand_made()] + list(mutations())
        assert len(files) >= 300
        folder = tmp_path / "pictures" / "cat"
        folder.mkdir(parents=True)
        (tmp_path / "pictures" / "dog").mkdir()
        for number in range(10):
            Image.new("RGB", (9, 9), (20 * number, 0, 0)).save(tmp_path / "pictures" / "dog" / f"good{number}.png")
            Image.new("RGB", (9, 9), (0, 20 * number, 0)).save(folder / f"good{number}.png")
        readable = {}
        for number, data in enumerate(files):
            (folder / f"{number}.png").write_bytes(data)
            start = time.monotonic()
            try:
                readable[f"{number}.png"] = classifier.predict(data).all_probabilities
            except DecodeError as problem:
                assert "\n" not in str(problem)
            assert time.monotonic() - start < 5
        classifier.save(tmp_path / "classifier")
        code = main(["predict", str(tmp_path / "classifier"), *(str(folder / f"{number}.png") for number in range(len(files))), "--json"])
        out, err = capsys.readouterr()
        found = {os.path.basename(entry["image"]): entry["all_probabilities"] for entry in json.loads(out)["predictions"]}
        assert code == 3 and "Traceback" not in err and found.keys() == readable.keys()
        assert all(found[name][label] == pytest.approx(value, abs=1e-6) for name in found for label, value in readable[name].items())
        with pytest.raises(DataError, match=f"{len(files) - len(readable)} of "):
            load_data(DataConfig("folder", str(tmp_path / "pictures"), size=8, channels=3))
        splits = load_data(DataConfig("folder", str(tmp_path / "pictures"), size=8, channels=3), allow=["corrupt"])
        kept = {os.path.basename(id) for part in (splits.train, splits.valid, splits.test) for id in part.ids}
        assert {name for name in kept if not name.startswith("good")} == readable.keys()


def test_equal_bytes_give_equal_pixels_by_every_entry_point(classifier, tmp_path):
    "As a path, bytes, a Pillow image and in a data set: bit for bit."
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "data" / label).mkdir(parents=True)
    named = {}
    for number, (format, mode) in enumerate([("PNG", "RGB"), ("PNG", "L"), ("PNG", "RGBA"), ("JPEG", "RGB"), ("JPEG", "CMYK"), ("WEBP", "RGB"), ("BMP", "RGB"), ("PNG", "P")] * 2):
        picture = drawn(int(rng.integers(9, 60)), int(rng.integers(9, 60))).convert(mode)
        path = tmp_path / "data" / ("cat" if number % 2 else "dog") / f"{number}.{format.lower().replace('jpeg', 'jpg')}"
        path.write_bytes(saved(picture, format))
        named[path.name] = path
    splits = load_data(DataConfig("folder", str(tmp_path / "data"), size=8, channels=3))
    for part in (splits.train, splits.valid, splits.test):
        for id, row in zip(part.ids, part.images):
            path = named[os.path.basename(id)]
            with Image.open(path) as picture:
                forms = [path, str(path), path.read_bytes(), picture]
                assert all(np.array_equal(read_pixels(splits.preprocess, form), row) for form in forms), path.name
