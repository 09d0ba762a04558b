"""Does `ic serve` answer as its API description promises, whatever is sent to it?

    python benchmarks/fuzz_server.py [--cases 20000] [--seed 1]

Schemathesis reads the description of a live server and makes requests from it, valid ones and invalid ones, for every operation. It checks that no answer is a
server error and that status, content type, headers and content are described, that unknown methods are refused and that no key means no answer. Three runs: with
images only, all of which must be accepted; with any bytes as images, in which most of the cases are; with an API key. It needs `pip install schemathesis`
and the extras export and serve. The last line is one JSON object; the exit code is 1 if a check failed."""
import argparse
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import tempfile
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
                 images, st.integers(0, 2000), st.integers(0, 2000), st.binary(max_size=50))
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


def fuzz(kind: str, cases: int, seed: int, keyed: bool = False) -> dict:
    "Run Schemathesis against a server and return what it found."
    words = ["--api-key-env", "BENCHMARK_KEY"] if keyed else []
    with tempfile.TemporaryDirectory() as folder, running_server(PORT, *words) as server:
        place = Path(folder)
        (place / "images").mkdir()
        write_images(place / "images")
        (place / "fuzz_hooks.py").write_text(HOOKS)
        (place / "schemathesis.toml").write_text(SETTINGS % str(kind == "images").lower() + (AUTHORIZED % KEY if keyed else ""))
        memory = server.megabytes()
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{PORT}/openapi.json", "--max-examples", str(cases), "--seed", str(seed),
                   "--continue-on-failure", "--phases", "examples,coverage,fuzzing", "--no-color", "--suppress-health-check", "all"]
        environment = os.environ | {"FUZZ_IMAGES": str(place / "images"), "FUZZ_KIND": kind, "SCHEMATHESIS_HOOKS": "fuzz_hooks",
                                    "PYTHONPATH": f"{place}:{os.environ.get('PYTHONPATH', '')}"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace")
        count = re.search(r"(\d+) generated", done.stdout)
        found = {"cases": int(count[1]) if count else 0, "statuses": dict(server.statuses()), "errors": server.errors(), "memory_mb": server.megabytes() - memory}
    failed = [line[:300] for line in done.stdout.splitlines() if re.match(r"_{5,} |- ST\d+|\[\d{3}\]", line)]
    print(f"{kind}, {'with a' if keyed else 'no'} key: {found}", *failed, sep="\n", flush=True)
    if done.returncode and not failed:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    return found | {"failed": failed}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if not importlib.util.find_spec("schemathesis"):
        print("schemathesis is not installed")
        sys.exit(77)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.environ["BENCHMARK_KEY"] = KEY
    most = options.cases // 2  # of an operation: two of them take images, the others have little to vary
    runs = {"images": fuzz("images", max(most // 20, 10), options.seed), "bytes": fuzz("bytes", most, options.seed),
            "key": fuzz("bytes", max(most // 10, 10), options.seed, keyed=True)}
    good = all(not run["failed"] and not run["errors"] and not any(status.startswith("5") for status in run["statuses"]) for run in runs.values())
    good &= sum(run["cases"] for run in runs.values()) >= options.cases
    print(json.dumps({"benchmark": "fuzz_server", "good": good, "runs": runs, "machine": machine()}))
    sys.exit(not good)


if __name__ == "__main__":
    main()
