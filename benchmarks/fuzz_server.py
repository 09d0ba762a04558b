"""Does `ic serve` answer as its API description promises, whatever is sent to it?

    python benchmarks/fuzz_server.py [--cases 20000] [--seed 1] [--jobs 2]

Schemathesis reads the description of a live server and makes requests from it, valid ones and invalid ones, for every operation. It checks that no answer is a
server error and that status, content type, headers and content are described, that unknown methods are refused and that no key means no answer. Three runs: with
images only, all of which must be accepted; with any bytes as images, so many cases; with an API key. It needs `pip install schemathesis`
and the extras export and serve. The last line is one JSON object; the exit code is 1 if a check failed."""
import argparse
import importlib.util
import io
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from checkpoints import machine
from server_tools import KEY, running_server
from serving import photos

PORT = 8306
HOOKS = '''
import os, pathlib, schemathesis
from hypothesis import strategies as st
files = [file.read_bytes() for file in sorted(pathlib.Path(os.environ["FUZZ_IMAGES"]).iterdir())]
images = st.sampled_from(files)
torn = st.builds(lambda data, start, length, new: data[:start] + new + data[start + length:],
                 images, st.integers(0, 500), st.integers(0, 500), st.binary(max_size=50))
schemathesis.openapi.format("binary", images if os.environ["FUZZ_KIND"] == "images" else images | torn | st.binary())
'''
# Too large is a refusal as well. What is wrong with one image of several is said in its place, in an answer with 200.
SETTINGS = '''
[checks.positive_data_acceptance]
enabled = %s
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "405", "413", "415", "422"]
[[operations]]
include-path = "/predict_batch"
checks.negative_data_rejection.enabled = false
'''
AUTHORIZED = '''
[auth.openapi.bearer]
bearer = "%s"
'''


def write_images(folder: Path) -> None:
    "Write small images of all formats."
    from PIL import Image
    image = Image.open(io.BytesIO(photos(32, 1)[0]))
    for name in ("jpeg", "png", "webp", "bmp"):
        image.save(folder / f"a.{name}", name)


def rounds(kind: str, cases: int, seed: int) -> Iterator[list[str]]:
    "Return the options of each call of Schemathesis: valid and invalid requests, at most a thousand for an operation, each with another seed."
    if kind == "images":
        yield ["--mode", "positive", "--phases", "examples,coverage,fuzzing", "--max-examples", str(cases), "--seed", str(seed)]
        return
    for number in itertools.count():
        mode, most = ("negative", 200) if number % 4 == 1 else ("positive", 1000)  # what is invalid takes ten times as long to invent
        phases = "examples,coverage,fuzzing" if number < 2 else "fuzzing"
        yield ["--mode", mode, "--phases", phases, "--max-examples", str(min(cases, most)), "--seed", str(seed + number)]


def fuzz(kind: str, cases: int, seed: int, jobs: int = 1, keyed: bool = False) -> dict:
    "Run Schemathesis against a server until there were so many cases, and return what it found."
    words = ["--api-key-env", "BENCHMARK_KEY"] if keyed else []
    with tempfile.TemporaryDirectory() as folder, running_server(PORT, *words) as server:
        place = Path(folder)
        (place / "images").mkdir()
        write_images(place / "images")
        (place / "fuzz_hooks.py").write_text(HOOKS)
        (place / "schemathesis.toml").write_text(SETTINGS % str(kind == "images").lower() + (AUTHORIZED % KEY if keyed else ""))
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{PORT}/openapi.json", "--continue-on-failure", "--no-color", "--no-shrink",
                   "--workers", "2", "--suppress-health-check", "all"]
        environment = os.environ | {"FUZZ_IMAGES": str(place / "images"), "FUZZ_KIND": kind, "SCHEMATHESIS_HOOKS": "fuzz_hooks",
                                    "PYTHONPATH": f"{place}:{os.environ.get('PYTHONPATH', '')}"}
        count, failed, memory, began = 0, [], server.megabytes(), time.perf_counter()
        def call(options: list[str]) -> tuple[list[str], subprocess.CompletedProcess]:
            return options, subprocess.run([*command, *options], cwd=folder, env=environment, capture_output=True, text=True, errors="replace")
        todo = rounds(kind, cases, seed)
        with ThreadPoolExecutor(jobs) as pool:
            while count < cases and (some := list(itertools.islice(todo, jobs))):
                for options, done in pool.map(call, some):
                    generated = re.search(r"(\d+) generated", done.stdout)
                    new = [line[:300] for line in done.stdout.splitlines() if re.match(r"_{5,} |- ST\d+|\[\d{3}\]", line)]
                    if not generated or done.returncode and not new:
                        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
                    count, failed = count + int(generated[1]), failed + new
                    print(f"{kind}: {count:,} cases in {time.perf_counter() - began:.0f} s; {' '.join(options)}", *new, sep="\n", flush=True)
        found = {"cases": count, "statuses": dict(server.statuses()), "errors": server.errors(), "memory_mb": server.megabytes() - memory, "failed": failed}
    print(f"{kind}, {'with a' if keyed else 'no'} key: {found}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="Calls of Schemathesis at a time.")
    options = parser.parse_args()
    if not importlib.util.find_spec("schemathesis"):
        print("schemathesis is not installed")
        sys.exit(77)
    os.environ["BENCHMARK_KEY"] = KEY
    small = max(options.cases // 40, 10)
    runs = {"images": fuzz("images", small, options.seed), "key": fuzz("bytes", small, options.seed, keyed=True), "bytes": fuzz("bytes", options.cases, options.seed, options.jobs)}
    good = all(not run["failed"] and not run["errors"] and not any(status.startswith("5") for status in run["statuses"]) for run in runs.values())
    print(json.dumps({"benchmark": "fuzz_server", "good": good, "runs": runs, "machine": machine()}))
    sys.exit(not good)


if __name__ == "__main__":
    main()
