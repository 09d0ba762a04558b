"""One small checkpoint and one small artifact of every version that introduced a format, and their logits.

    python tests/formats.py write   adds tests/data/<version> with the current code; an existing sample is never overwritten"""
import json
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

import image_classifier
from image_classifier.config import compose
from image_classifier.core import load_state, save_tensors
from image_classifier.data import load_data
from image_classifier.inference import Classifier
from image_classifier.models import Architecture, build_model, MODELS
from image_classifier.runs import train
from image_classifier.training import read_checkpoint

DATA = Path(__file__).parent / "data"
SAMPLES = sorted((path for path in DATA.glob("*.*.*") if path.is_dir()), key=lambda path: [int(number) for number in path.name.split(".")])
CHECKPOINT = "step_00000007"  # in the middle of the second of two epochs of five steps, with the best weights beside it


def sample(architecture: Architecture) -> nn.Module:
    "Return a model of 230 parameters; each test that needs it registers it."
    return nn.Sequential(nn.Conv2d(architecture.channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
                         nn.Flatten(), nn.Linear(16, architecture.classes))


def splits():
    "Return digits for two epochs of five steps."
    found = load_data("digits")
    return replace(found, train=found.train.select(range(40)), valid=found.valid.select(range(16)), test=found.test.select(range(16)))


def configured(*overrides):
    return compose(["model.name=sample", "epochs=2", "batch_size=8", "lr=0.01", "device=cpu", *overrides])


def checkpoint_logits(folder, preprocess, images):
    "Return the logits of a checkpoint's model."
    model = build_model(Architecture("sample", preprocess.channels, 10, preprocess.size))
    load_state(model, read_checkpoint(folder).model)
    return logits(model, preprocess, images)


@torch.no_grad()
def logits(model, preprocess, images):
    return model.eval()(preprocess.normalize(images))


def make(folder):
    "Write a checkpoint and an artifact with the current code, beside images and the logits of both."
    data = splits()
    run = train(configured("checkpoint.every_steps=7", "checkpoint.keep=9"), folder / "run", splits=data).path
    (folder / "checkpoints").mkdir()
    shutil.move(run / "checkpoints" / CHECKPOINT, folder / "checkpoints")
    shutil.move(run / "classifier", folder)
    shutil.rmtree(run)
    images, classifier = torch.from_numpy(data.test.images[:8]), Classifier.load(folder / "classifier")
    save_tensors(folder / "answers.safetensors", {
        "images": images, "classifier": logits(classifier.model, data.preprocess, images),
        "checkpoint": checkpoint_logits(folder / "checkpoints" / CHECKPOINT, data.preprocess, images)})
    return folder


def formats(folder):
    "Return the format numbers in a sample, each with the name of its file."
    found = {path.name: json.loads(path.read_text()) for path in folder.rglob("*.json")}
    return {(name, value["format"]) for name, value in found.items() if value and "format" in value}


if __name__ == "__main__":
    target = DATA / image_classifier.__version__
    MODELS["sample"] = sample
    if sys.argv[1:] != ["write"]:
        sys.exit(__doc__)
    if target.exists():
        sys.exit(f"{target.name} has a sample already. to add one for a new format, raise the version in settings.ini")
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(make(Path(place)), target)
    print(target.name, sum(path.stat().st_size for path in target.rglob("*") if path.is_file()), "bytes", sorted(formats(target)))
