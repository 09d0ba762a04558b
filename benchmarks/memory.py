"""Does memory stay flat, and time in proportion, when a data set grows beyond memory?

    python benchmarks/memory.py [IMAGES [ROUNDS]]   # 10,000 of the large set and 2 by default

The small set has a tenth of the large one's images. Each takes four times its `data.memory_limit`, so both are mapped. A child process
decodes each, checks it for near duplicates and trains a small network for an epoch, small and large in turn; the anonymous memory of the child (RssAnon: mapped pages
belong to the system) is watched from outside. The last line is one JSON object; the exit code is 1 where a bar is missed."""
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

from folder_of_photos import SIZE, draw, machine
from torch import nn

from image_classifier.config import DataConfig
from image_classifier.data import IndexedArrayView, load_data
from image_classifier.quality import check_splits
from image_classifier.training import fit

MOST_MEMORY = 300e6  # bytes beyond the small set's
TIME = (9, 11)  # for ten times the images


def child(root: str, cache: str, limit: str) -> None:
    "Decode, check and train; print the seconds that each took."
    digits = load_data("digits")
    check_splits(digits)
    fit(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), digits, epochs=1, device="cpu")  # what is imported on the way is not measured
    seconds, begun = {}, time.perf_counter()
    def done(what: str) -> None:
        nonlocal begun
        seconds[what], begun = time.perf_counter() - begun, time.perf_counter()
    splits = load_data(DataConfig("folder", root, size=SIZE, cache_dir=cache, memory_limit=int(limit)))
    done("decode")
    check_splits(splits)
    done("check")
    model = nn.Sequential(nn.Conv2d(3, 16, 8, 8), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    fit(model, splits, epochs=1, batch_size=64, device="cpu")
    done("train")
    print(json.dumps({"seconds": seconds, "images": len(splits.train) + len(splits.valid) + len(splits.test), "mapped": isinstance(splits.train.images, IndexedArrayView)}))


def watched(root: Path, cache: Path, limit: int) -> dict:
    "What the child says, and the most anonymous memory that it had."
    command = [sys.executable, __file__, "child", str(root), str(cache), str(limit)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        peak, ended = 0, threading.Event()
        def _watch() -> None:
            nonlocal peak
            while not ended.wait(0.02):
                peak = max(peak, anonymous(process.pid))
        (watcher := threading.Thread(target=_watch)).start()
        out, err = process.communicate()
        ended.set()
        watcher.join()
    if process.returncode:
        sys.exit(err)
    return {**json.loads(out.splitlines()[-1]), "peak": peak}


def anonymous(pid: int) -> int:
    "The anonymous memory of a process in bytes, 0 when it is gone."
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def measure(images: int, rounds: int) -> dict:
    "Small and large in turn."
    with tempfile.TemporaryDirectory() as place:
        for name, count in (("small", images // 10), ("large", images)):
            draw(Path(place, name), count)
        runs, limits = {"small": [], "large": []}, {"small": images // 10 * 3 * SIZE**2 // 4, "large": images * 3 * SIZE**2 // 4}
        for _ in range(rounds):
            for name, done in runs.items():
                done.append(watched(Path(place, name), Path(place, "cache"), limits[name]))
                shutil.rmtree(Path(place, "cache"), ignore_errors=True)
                print(f"{name}: {done[-1]['peak'] / 1e6:.0f} MB, " + ", ".join(f"{what} {value:.1f} s" for what, value in done[-1]["seconds"].items()), flush=True)
    assert all(one["mapped"] for several in runs.values() for one in several)
    ratios = {what: median(large["seconds"][what] / small["seconds"][what] for small, large in zip(*runs.values())) for what in ("decode", "check", "train")}
    total = median(sum(large["seconds"].values()) / sum(small["seconds"].values()) for small, large in zip(*runs.values()))
    more = max(large["peak"] for large in runs["large"]) - max(small["peak"] for small in runs["small"])
    return {"ratio": total, "ratios": ratios, "more_memory": more, "memory_limit": limits["large"], "images": images, "runs": runs}


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(*sys.argv[2:])
        sys.exit()
    images, rounds = (int(given) if given else default for given, default in zip([*sys.argv[1:], "", ""], (10_000, 2)))
    facts, result = machine(), measure(images, rounds)
    good = TIME[0] <= result["ratio"] <= TIME[1] and result["more_memory"] <= MOST_MEMORY
    print(json.dumps({"benchmark": "memory", "good": good, **result, "machine": facts}))
    sys.exit(not good)
