"Saved artifacts and checkpoints of every format still load and give the same logits: each format has a sample in tests/data."
import shutil

import pytest
import torch
from formats import CHECKPOINT, SAMPLES, checkpoint_logits, configured, formats, logits, make, sample, splits

from image_classifier.core import ArtifactError, load_tensors, own_folder, read_json, write_json, write_manifest
from image_classifier.inference import artifact, Classifier, metadata
from image_classifier.models import MODELS
from image_classifier.runs import train
from image_classifier.training import checkpoint, read_checkpoint

every = pytest.mark.parametrize("kept", SAMPLES, ids=lambda path: path.name)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(MODELS, "sample", sample)


def near(found, expected):
    return len(expected) == 8 and (found - expected).abs().max() <= 1e-6


@every
def test_artifact_of_each_format_gives_the_same_logits(kept):
    answers, found = load_tensors(kept / "answers.safetensors"), Classifier.load(kept / "classifier")
    assert near(logits(found.model, found.preprocess, answers["images"]), answers["classifier"])
    assert found.metrics["test"]["accuracy"] and len(found.classes) == 10


@every
def test_checkpoint_of_each_format_gives_the_same_logits_and_resumes(kept, tmp_path):
    answers, preprocess = load_tensors(kept / "answers.safetensors"), Classifier.load(kept / "classifier").preprocess
    assert near(checkpoint_logits(kept / "checkpoints" / CHECKPOINT, preprocess, answers["images"]), answers["checkpoint"])
    assert not near(answers["classifier"], answers["checkpoint"])
    shutil.copytree(kept / "checkpoints", own_folder(tmp_path / "run", "run") / "checkpoints")
    (tmp_path / "run" / "config.yaml").write_text("model: {name: sample}\n")
    with pytest.warns(UserWarning, match="not be bit-identical"):
        run = train(configured("seed=1", "allow=[change]"), tmp_path / "run", splits=splits())
    assert run.resumed == 7 and len(run.history) == 2


# new formats


def unknown(folder):
    "Return the formats in a folder that no sample has; numbers may not be skipped either."
    known = set().union(*map(formats, SAMPLES))
    written = formats(folder)
    return {(name, number) for name, newest in written for number in range(1, newest + 1)} - known


def test_every_written_format_has_a_sample(tmp_path):
    names = {name for name, _ in formats(make(tmp_path))}
    assert names == {"MANIFEST.json", "classifier.json", "metrics.json", "state.json"}
    assert not unknown(tmp_path), "a new format: raise the version, then python tests/formats.py write"


def test_new_format_without_a_sample_is_detected(tmp_path, monkeypatch):
    for module in (checkpoint, artifact, metadata):
        monkeypatch.setattr(module, "FORMAT", module.FORMAT + 1)
    assert unknown(make(tmp_path)) == {("classifier.json", artifact.FORMAT), ("state.json", checkpoint.FORMAT)}


@every
def test_newer_format_is_refused_with_the_version_that_wrote_it(kept, tmp_path):
    for name, read, noted in [("classifier/classifier.json", Classifier.load, "versions"), (f"checkpoints/{CHECKPOINT}/state.json", read_checkpoint, "made_with")]:
        shutil.copytree(kept, tmp_path / "later", dirs_exist_ok=True)
        path = tmp_path / "later" / name
        value = read_json(path)
        write_json(path, {**value, "format": 7, noted: {**value[noted], "image_classifier": "9.1"}})
        write_manifest(path.parent)
        with pytest.raises(ArtifactError, match=r"made in format 7 by version 9\.1, this is .* and reads up to \d+ .*upgrade image_classifier") as caught:
            read(path.parent)
        assert caught.value.exit_code == 4


def test_logits_are_compared():
    assert not near(torch.zeros(8, 10), torch.full((8, 10), 2e-6)) and not near(torch.zeros(0, 10), torch.zeros(0, 10))
