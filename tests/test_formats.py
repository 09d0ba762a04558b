"What was saved years ago still loads, and answers as it did: each format that was ever written has its sample in tests/data."
import shutil

import pytest
import torch
from formats import CHECKPOINT, SAMPLES, checkpoint_logits, configured, formats, logits, make, sample, splits

from image_classifier.training import checkpoint as checkpoints

from image_classifier.core import ArtifactError, load_tensors, read_json, write_json, write_manifest
from image_classifier.inference import classifier, Classifier
from image_classifier.models import MODELS
from image_classifier.runs import train
from image_classifier.training import read_checkpoint

every = pytest.mark.parametrize("kept", SAMPLES, ids=lambda path: path.name)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(MODELS, "sample", sample)


def near(found, expected):
    return len(expected) == 8 and (found - expected).abs().max() <= 1e-6


@every
def test_artifact_of_each_version_answers_as_it_did(kept):
    answers, found = load_tensors(kept / "answers.safetensors"), Classifier.load(kept / "classifier")
    assert near(logits(found.model, found.preprocess, answers["images"]), answers["classifier"])
    assert found.metrics["test"]["accuracy"] and len(found.classes) == 10


@every
def test_checkpoint_of_each_version_answers_as_it_did_and_is_gone_on_with(kept, tmp_path):
    answers, preprocess = load_tensors(kept / "answers.safetensors"), Classifier.load(kept / "classifier").preprocess
    assert near(checkpoint_logits(kept / "checkpoints" / CHECKPOINT, preprocess, answers["images"]), answers["checkpoint"])
    assert not near(answers["classifier"], answers["checkpoint"])
    shutil.copytree(kept / "checkpoints", tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "config.yaml").write_text("model: {name: sample}\n")
    with pytest.warns(UserWarning, match="not bit for bit"):
        run = train(configured("seed=1", "allow=[change]"), tmp_path / "run", splits=splits())
    assert run.resumed == 7 and len(run.history) == 2


# and the next format


def unknown(folder):
    "The formats in a folder that no sample has; a number may not be left out either."
    known = set().union(*map(formats, SAMPLES))
    written = formats(folder)
    return {(name, number) for name, newest in written for number in range(1, newest + 1)} - known


def test_every_format_that_is_written_has_a_sample(tmp_path):
    names = {name for name, _ in formats(make(tmp_path))}
    assert names == {"MANIFEST.json", "classifier.json", "metrics.json", "state.json"}
    assert not unknown(tmp_path), "a new format: raise the version, then python tests/formats.py write"


def test_a_new_format_without_a_sample_is_noticed(tmp_path, monkeypatch):
    for module in (checkpoints, classifier):
        monkeypatch.setattr(module, "UPGRADES", (*module.UPGRADES, lambda old: old))
        monkeypatch.setattr(module, "FORMAT", module.FORMAT + 1)
    assert unknown(make(tmp_path)) == {("classifier.json", classifier.FORMAT), ("state.json", checkpoints.FORMAT)}


@every
def test_a_sample_is_brought_up_step_by_step(kept, monkeypatch):
    "Say that two formats had come since: each had given a key another name."
    def renamed(old, new):
        return lambda found: {new if key == old else key: value for key, value in found.items()}
    count = [len(module.UPGRADES) for module in (classifier, checkpoints)]
    monkeypatch.setattr(classifier, "UPGRADES", (*classifier.UPGRADES, renamed("temperature", "coolness"), renamed("coolness", "temperature")))
    monkeypatch.setattr(checkpoints, "UPGRADES", (*checkpoints.UPGRADES, renamed("lr", "rate"), renamed("best_step", "best_step")))
    assert Classifier.load(kept / "classifier").temperature == 1.0
    state = read_checkpoint(kept / "checkpoints" / CHECKPOINT).state
    assert state["format"] == count[1] + 3 and state["rate"] == 0.01 and "lr" not in state


@every
def test_what_a_later_version_made_names_that_version(kept, tmp_path):
    for name, read, noted in [("classifier/classifier.json", Classifier.load, "versions"), (f"checkpoints/{CHECKPOINT}/state.json", read_checkpoint, "made_with")]:
        shutil.copytree(kept, tmp_path / "later", dirs_exist_ok=True)
        path = tmp_path / "later" / name
        value = read_json(path)
        write_json(path, {**value, "format": 7, noted: {**value[noted], "image_classifier": "9.1"}})
        write_manifest(path.parent)
        with pytest.raises(ArtifactError, match=r"made in format 7 by version 9\.1, this is .* and reads up to \d+ .*upgrade image_classifier") as caught:
            read(path.parent)
        assert caught.value.exit_code == 4


def test_answers_are_compared():
    assert not near(torch.zeros(8, 10), torch.full((8, 10), 2e-6)) and not near(torch.zeros(0, 10), torch.zeros(0, 10))
