"""How fast do large photos reach the network? A folder of JPEGs at 224 pixels, against torchvision's ImageFolder with two workers.

    python benchmarks/folder_of_photos.py [IMAGES [ROUNDS]]   # 5,000 and 3 by default

Both deliver normalized float batches of 64, shuffled, without augmentation. A round is a first epoch (ours finds, checks, decodes and divides
the files, into an empty cache) and two that follow, of both in turn. The last line is one JSON object; the exit code is 1 where a bar is missed."""
import json
import os
import platform
import shutil
import sys
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

from image_classifier.config import DataConfig
from image_classifier.core import permutation
from image_classifier.data import batches, load_data, open_entry, pixels_key, read_source, Splits

SIZE, BATCH = 224, 64
LEAST_FIRST, LEAST_LATER = 0.9, 8.0  # images a second, to torchvision's


def photo(number: int) -> Image.Image:
    "A picture with the statistics of a photo: detail of all sizes, less of the small, grain, a bright and a dark side."
    rng = np.random.default_rng([1, number])
    width, height = rng.integers(240, 321, 2).tolist()
    picture = np.zeros((height, width, 3), np.float32)
    for cells in (2, 4, 8, 16, 32, 64):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
        picture += np.asarray(noise, np.float32) / cells**0.7
    picture += np.linspace(-40, 40, width, dtype=np.float32)[:, None] + rng.normal(0, 4, (height, width, 1)).astype(np.float32)
    low, high = np.percentile(picture, (1, 99))
    return Image.fromarray(np.clip((picture - low) * (255 / (high - low)), 0, 255).astype(np.uint8))


def draw(folder: Path, images: int) -> None:
    "Draw all photos, in ten classes."
    def _one(number: int) -> None:
        photo(number).save(folder / f"class_{number % 10}" / f"{number:06}.jpg", quality=88)
    for name in range(10):
        (folder / f"class_{name}").mkdir(parents=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(_one, range(images)))


def ours(config: DataConfig) -> list[float]:
    "Images a second, of the first epoch with all that comes before it, and of two more."
    rates, begun = [], time.perf_counter()
    splits = load_data(config)
    for epoch in range(3):
        begun = begun if epoch == 0 else time.perf_counter()
        rates.append(sum(one_epoch(splits, epoch)) / (time.perf_counter() - begun))
    return rates


def one_epoch(splits: Splits, epoch: int) -> list[int]:
    "Ask for all images, training images in another order each time; how many came."
    order, count = permutation(len(splits.train), 42, epoch), []
    for part, rows in ((splits.train, order), (splits.valid, None), (splits.test, None)):
        count += [len(batch.targets) for batch in batches(part, splits.preprocess, BATCH, rows, reuse=True)]
    return count


def theirs(root: Path, splits: Splits) -> list[float]:
    "The same of torchvision, workers kept from epoch to epoch."
    from torchvision import datasets, transforms
    mean, std = splits.preprocess.mean, splits.preprocess.std
    change = transforms.Compose([transforms.Resize(SIZE), transforms.CenterCrop(SIZE), transforms.ToTensor(), transforms.Normalize(mean, std)])
    rates, begun = [], time.perf_counter()
    loader = torch.utils.data.DataLoader(datasets.ImageFolder(root, change), BATCH, shuffle=True, num_workers=2, persistent_workers=True)
    for epoch in range(3):
        begun = begun if epoch == 0 else time.perf_counter()
        rates.append(sum(len(targets) for _, targets in loader) / (time.perf_counter() - begun))
    return rates


def agree(root: Path, splits: Splits) -> float:
    "The share of values in which one of our images differs by more than two gray levels from a plain decoding with Pillow."
    image = Image.open(root / splits.valid.ids[0]).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    plain = np.asarray(image.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    return float((np.abs(plain.astype(int) - splits.valid.images[0]) > 2).mean())


def machine() -> dict:
    "What the numbers hold for."
    return {"python": platform.python_version(), "torch": str(torch.__version__), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
            "load": os.getloadavg()[0], "device": platform.machine()}


if __name__ == "__main__":
    images, rounds = (int(given) if given else default for given, default in zip([*sys.argv[1:], "", ""], (5000, 3)))
    facts = machine()
    warnings.simplefilter("error")  # nothing is left out or converted
    with tempfile.TemporaryDirectory() as place:
        root, rows = Path(place, "photos"), []
        draw(root, images)
        for _ in range(rounds):
            config = DataConfig("folder", str(root), size=SIZE, cache_dir=f"{place}/cache")
            mine = ours(config)
            begun = time.perf_counter()
            splits = load_data(config)
            again = time.perf_counter() - begun
            assert open_entry(Path(place, "cache", "decoded", pixels_key(read_source(config), config))) is not None and agree(root, splits) == 0
            rows.append({"ours": mine, "theirs": theirs(root, splits), "second_load_seconds": again})
            shutil.rmtree(f"{place}/cache")
            print(f"images a second, epoch by epoch: ours {[round(rate) for rate in mine]}, torchvision {[round(rate) for rate in rows[-1]['theirs']]}; "
                  f"loaded again in {again:.2f} s", flush=True)
    first = median(row["ours"][0] / row["theirs"][0] for row in rows)
    later = median(mine / their for row in rows for mine, their in zip(row["ours"][1:], row["theirs"][1:]))
    good = first >= LEAST_FIRST and later >= LEAST_LATER
    print(json.dumps({"benchmark": "folder_of_photos", "good": good, "ratio": later, "first_epoch_ratio": first, "images": images, "rounds": rows, "machine": facts}))
    sys.exit(not good)
