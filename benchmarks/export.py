"""Does an exported classifier answer as the original, how large and how fast is it, and what do 8-bit integers cost?

    python benchmarks/export.py [NETWORK ...]   # all of them by default

CIFAR-10 is looked for in $IMAGE_CLASSIFIER_CIFAR10, a folder with train/ and test/, each with ten class folders; simple_cnn, resnet, speednet and
resnet18 are trained on a tenth of its training images, for one epoch, and efficientnet_lite0 at 96 px gets a new last layer. All 10,000 test images go
through the gates. efficientnet_lite0 at 224 px is trained on $IMAGE_CLASSIFIER_HYMENOPTERA, a folder with train/ and val/ of ants and bees; its 153 test
images are too few for a gate of 8-bit integers. Needs the extras export and pretrained. The last line is one JSON object; the exit code is 1 where a bar is missed."""
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command does: two libraries with threads take turns on the same cores

import numpy as np
import torch
from checkpoints import machine, skipped

from image_classifier.config import compose
from image_classifier.data import load_data
from image_classifier.inference import Classifier, export_artifact, forms_table, OnnxModel
from image_classifier.runs import train

MOST_CHANGE, SMALLER = 1e-5, 0.3  # between batches of different sizes, in a probability; size of the 8-bit file, to that in float32
CIFAR, PHOTOS = "IMAGE_CLASSIFIER_CIFAR10", "IMAGE_CLASSIFIER_HYMENOPTERA"
TENTH = ["data.train_fraction=0.1", "epochs=1"]
NETWORKS = {"simple_cnn": (CIFAR, TENTH), "resnet": (CIFAR, TENTH), "speednet": (CIFAR, TENTH), "resnet18": (CIFAR, TENTH),
            "efficientnet_lite0": (CIFAR, ["data.size=96", "data.train_fraction=0.1", "finetune=probe", "model.weights=DEFAULT"]),
            "efficientnet_lite0 224": (PHOTOS, ["data.size=224", "finetune=probe", "model.weights=DEFAULT"])}


def change_between_batches(model: OnnxModel, images: np.ndarray) -> float:
    "Return the largest difference of a probability between batches of 64 and smaller ones."
    rows = model.outputs(images)[0]
    return float(max(abs(np.concatenate([model.outputs(images[i:i + size])[0] for i in range(0, len(images), size)]) - rows).max()
                     for size in (1, 2, 7, 32)))


def measure(name: str, folder: str) -> dict:
    "Train a network, export it, and return the figures of its forms."
    place, words = NETWORKS[name]
    overrides = [f"data={os.environ[place]}", f"model={name.split()[0]}", f"data.cache_dir={folder}/cache", "device=cpu", *words]
    config = compose(overrides)
    artifact = train(config, Path(folder) / name.replace(" ", "_")).path / "classifier"
    classifier = Classifier.load(artifact)
    p = classifier.preprocess
    config.data.size, config.data.channels, config.data.resize = p.size, p.channels, p.resize
    splits = load_data(config.data)
    forms = export_artifact(artifact, "onnx,int8", splits)
    print(f"\n{name}, {len(splits.test):,} test images\n{forms_table(forms)}", flush=True)
    found = {form.name: form.as_dict() for form in forms}
    exact = change_between_batches(OnnxModel(artifact), np.asarray(splits.test.images[:64]))
    print(f"batches of 1, 2, 7 and 32 differ from one of 64 by up to {exact:.0e}", flush=True)
    small = found["int8"]["bytes"] and found["int8"]["bytes"] / found["onnx"]["bytes"]
    error = next((str(form.error) for form in forms if form.error), None)
    return {"forms": found, "batches": exact, "int8_size": small, "int8_error": error,
            "good": exact <= MOST_CHANGE and (small is None or small <= SMALLER)}


if __name__ == "__main__":
    chosen = {name: place for name, (place, _) in NETWORKS.items() if len(sys.argv) < 2 or name in sys.argv[1:]}
    if missing := {place for place in chosen.values() if not Path(os.environ.get(place, "")).is_dir() or not os.environ.get(place)}:
        skipped(f"{', '.join(sorted(missing))}: no such folder")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))
    with tempfile.TemporaryDirectory() as folder:
        results = {name: measure(name, folder) for name in chosen}
    good = all(one["good"] for one in results.values())
    print(json.dumps({"benchmark": "export", "good": good, "networks": results, "machine": machine()}))
    sys.exit(not good)
