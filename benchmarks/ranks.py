"""What do two processes with a thread each make of two cores, beside one process with two threads? CIFAR-10 as class folders.

    python benchmarks/ranks.py [ROUNDS [EPOCHS]]   # 3 and 3 by default

Both are `ic train` with `simple_cnn` and `hyperparameters=fast`; two of them started by torchrun, which gives each one thread. They run in turn,
once for each seed, on images that are decoded already. The accuracies are compared in the mean: the two normalize other batches and so
differ as two seeds do. The images are looked for in $IMAGE_CLASSIFIER_CIFAR10, a folder with train/ and test/. The last line is one
JSON object; the exit code is 1 where a bar is missed."""
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, median

from checkpoints import machine, skipped

LEAST = 0.85  # images a second, to one process's
ALONE = [sys.executable, "-m", "image_classifier.cli"]
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "image_classifier.cli"]


def trained(command: list[str], images: str, place: Path, words: list[str]) -> dict:
    "The measures of a run."
    run = place / "run"
    subprocess.run([*command, "train", "--out", str(run), f"data={images}", f"data.cache_dir={place / 'cache'}", "hyperparameters=fast", "check_near_duplicates=false",
                    "device=cpu", *words], check=True, capture_output=True)
    measures = json.loads((run / "metrics.json").read_text())
    run.rename(place / f"run{len(list(place.iterdir()))}")
    return measures


if __name__ == "__main__":
    images = os.environ.get("IMAGE_CLASSIFIER_CIFAR10")
    if not images:
        skipped("set IMAGE_CLASSIFIER_CIFAR10 to a folder with train/ and test/")
    rounds, epochs = (int(given) if given else default for given, default in zip([*sys.argv[1:], "", ""], (3, 3)))
    with tempfile.TemporaryDirectory() as folder:
        facts, pairs = machine(), []
        trained(ALONE, images, Path(folder), ["epochs=1", "max_minutes=0.1"])  # decodes
        for seed in range(rounds):
            pairs.append([trained(command, images, Path(folder), [f"epochs={epochs}", f"seed={seed}"]) for command in (ALONE, TWO)])
            print([round(run["time"]["images_per_second"]) for run in pairs[-1]], flush=True)
    speed = median(two["time"]["images_per_second"] / one["time"]["images_per_second"] for one, two in pairs)
    one, two = ([run["test"]["accuracy"] for run in runs] for runs in zip(*pairs))
    inside = mean(mine["low"] for mine in one) <= mean(their["value"] for their in two) <= mean(mine["high"] for mine in one)
    good = speed >= LEAST and inside
    print(json.dumps({"benchmark": "ranks", "good": good, "ratio": speed, "images_per_second": [[run["time"]["images_per_second"] for run in pair] for pair in pairs],
                      "accuracy": {"one": one, "two": two}, "machine": facts}))
    sys.exit(not good)
