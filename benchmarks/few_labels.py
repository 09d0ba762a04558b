"""How much is a pretrained network worth with few labels? CIFAR-10 as class folders: a linear probe, and training from scratch.

    python benchmarks/few_labels.py [SEEDS [PIXELS]]   # 5 and 96 by default

Of each class, 5, 10 or 50 images are labeled. The probe is fitted to features of EfficientNet-lite0 (extra `pretrained`), for which the images are enlarged to
PIXELS; a tenth of the labeled images, at least one of each class, is for validation. k nearest neighbors have the same features. From scratch, `speednet` is trained
with `hyperparameters=speed augment=quick` for 100 to 320 steps on all labeled images, which also are its
validation images, so the epoch with the lowest loss on them is kept: ten other images would choose the epoch by chance, and cost accuracy. All of them are tested on the same 10,000 images. The features of all images are computed once. Each seed chooses other
labeled images; intervals are 95 %, of the mean over seeds (Student's t). The images are looked for in $IMAGE_CLASSIFIER_CIFAR10, a folder with train/ and test/. A markdown table comes first, the last line is one JSON object; the exit
code is 1 where the probe is not better than training from scratch."""
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
from checkpoints import machine, skipped
from scipy.stats import t

from image_classifier.config import compose
from image_classifier.data import Dataset, Preprocess, Splits
from image_classifier.metrics import predict_logits
from image_classifier.models import adopt_normalization, build_model, load_pretrained, packaged_weights, pretrained_weights
from image_classifier.training import choose_neighbors, extract_features, fit, fit_probe, nearest_neighbors, refit, training_arguments

EPOCHS = {5: 100, 10: 100, 50: 40}  # from scratch, by the labeled images of each class
SCRATCH, PROBE, NEIGHBORS = "from scratch", "probe", "nearest neighbors"


def read(paths: list[Path], classes: list[str], size: int) -> Dataset:
    "The images of these files, resized as everywhere in the library."
    preprocess = Preprocess(size, 3, "crop", (0.5,) * 3, (0.25,) * 3)
    images = np.stack([preprocess.pixels(path.read_bytes()) for path in paths])
    targets = np.array([classes.index(path.parent.name) for path in paths])
    return Dataset(images, targets, tuple(classes), tuple(map(str, paths)))


def features_of(paths: list[Path], classes: list[str], size: int) -> np.ndarray:
    "The features of these files, computed 2,000 at a time so that little memory is needed."
    model = build_model("efficientnet_lite0", classes=len(classes), channels=3, size=size)
    load_pretrained(model)
    preprocess = adopt_normalization(Preprocess(size, 3, "crop", (0.5,) * 3, (0.25,) * 3), pretrained_weights("efficientnet_lite0"))
    parts = (paths[start:start + 2000] for start in range(0, len(paths), 2000))
    return np.concatenate([extract_features(model, read(part, classes, size), preprocess) for part in parts])


def scratch(labeled: Dataset, test: Dataset, epochs: int, seed: int) -> float:
    "Test accuracy of a network trained on these images only."
    mean, std = ((getattr(labeled.images / 255, name)((0, 2, 3))) for name in ("mean", "std"))
    preprocess = Preprocess(32, 3, "crop", tuple(mean.tolist()), tuple(std.tolist()))
    config = compose(["hyperparameters=speed", "augment=quick", f"batch_size={min(64, len(labeled))}", f"epochs={epochs}", f"seed={seed}",
                      "early_stopping_patience=0", "device=cpu"])
    model = build_model("speednet", seed=seed, classes=len(labeled.classes), channels=3, size=32)
    fit(model, Splits("few", labeled, labeled, test, preprocess, "0" * 64), **training_arguments(config))  # the best epoch is among the last
    return float((predict_logits(model, test, preprocess, tta=config.augment.tta).argmax(1).numpy() == test.targets).mean())


def on_features(train: tuple, valid: tuple, test: tuple, classes: list[str]) -> dict[str, float]:
    "Test accuracy of the probe and of nearest neighbors; each part is features and targets."
    probe = refit(fit_probe(*train, *valid, classes), *train, *valid)
    count, _ = choose_neighbors(*train, *valid)
    features, targets = (np.concatenate(both) for both in zip(train, valid))
    return {PROBE: float((probe.logits(test[0]).argmax(1) == test[1]).mean()),
            NEIGHBORS: float((nearest_neighbors(features, targets, test[0], count) == test[1]).mean())}


def interval(values: list[float]) -> dict[str, float]:
    "The mean over seeds and its 95 % interval."
    mean, half = np.mean(values), t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return {"value": float(mean), "low": float(mean - half), "high": float(mean + half)}


if __name__ == "__main__":
    images = os.environ.get("IMAGE_CLASSIFIER_CIFAR10")
    if not images:
        skipped("set IMAGE_CLASSIFIER_CIFAR10 to a folder with train/ and test/")
    if packaged_weights() is None:
        skipped("install the extra pretrained")
    seeds, size = (int(given) if given else default for given, default in zip([*sys.argv[1:], "", ""], (5, 96)))
    facts, begun = machine(), time.perf_counter()
    classes = sorted(path.name for path in Path(images, "train").iterdir() if path.is_dir())
    test_files = sorted(Path(images, "test").glob("*/*.jpg"))
    chosen = {}  # for each seed, the files of each class; the first 5 and 10 of them are the smaller sets
    for seed in range(seeds):
        for name in classes:
            files = sorted(Path(images, "train", name).glob("*.jpg"))
            chosen[seed, name] = [files[row] for row in np.random.default_rng(seed).choice(len(files), max(EPOCHS), replace=False)]
    labeled = sorted({path for several in chosen.values() for path in several})
    features = features_of(labeled + test_files, classes, size)
    row_of = {path: row for row, path in enumerate(labeled)}
    test = read(test_files, classes, 32)
    took = {"features": time.perf_counter() - begun, SCRATCH: 0.0, "probe and neighbors": 0.0}
    print(f"features of {len(features)} images at {size} px: {took['features']:.0f} s", flush=True)
    runs = {count: {name: [] for name in (PROBE, NEIGHBORS, SCRATCH)} for count in EPOCHS}
    for count, epochs in EPOCHS.items():
        for seed in range(seeds):
            held = max(1, count // 10)
            files = [[path for name in classes for path in chosen[seed, name][part]] for part in (slice(held, count), slice(held))]
            pixels = [read(part, classes, 32) for part in files]
            known = [(features[[row_of[path] for path in part]], data.targets) for part, data in zip(files, pixels)]
            begun = time.perf_counter()
            for name, accuracy in on_features(*known, (features[len(labeled):], test.targets), classes).items():
                runs[count][name].append(accuracy)
            between = time.perf_counter()
            runs[count][SCRATCH].append(scratch(read(files[0] + files[1], classes, 32), test, epochs, seed))
            took["probe and neighbors"] += between - begun
            took[SCRATCH] += time.perf_counter() - between
            print(f"{count} per class, seed {seed}:", {name: round(several[-1], 4) for name, several in runs[count].items()}, flush=True)
    found = {count: {name: interval(several) for name, several in one.items()} for count, one in runs.items()}
    for count, one in runs.items():
        found[count]["difference"] = interval(np.subtract(one[PROBE], one[SCRATCH]).tolist())
    print(f"\n| images per class | {PROBE} | {NEIGHBORS} | {SCRATCH} | {PROBE} beyond {SCRATCH} |\n|---|---|---|---|---|")
    for count, one in found.items():
        print(f"| {count} | " + " | ".join(f"{100 * value['value']:.1f} [{100 * value['low']:.1f}, {100 * value['high']:.1f}]" for value in one.values()) + " |")
    good = all(one["difference"]["low"] > 0 for one in found.values())
    print("\n" + json.dumps({"benchmark": "few_labels", "good": good, "found": found, "runs": runs, "seconds": took, "pixels": size, "machine": facts}))
    sys.exit(not good)
