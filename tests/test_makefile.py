"""The targets of the Makefile, each in a folder of its own with programs that write down how they were called: nothing is installed or built."""
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from literate import ROOT

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
CALLS = "calls.txt"


def make(folder: Path, *words: str) -> subprocess.CompletedProcess:
    "Run make in a folder, without what an outer make or its user has set."
    outer = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "LOCK", "TORCH_INDEX", "RUN", "ARGS", "ENGINE", "BUILD_OPTIONS", "OVERRIDES", "VENV", "PYTHON"}
    kept = {name: value for name, value in os.environ.items() if name not in outer}
    return subprocess.run(["make", *words], cwd=folder, env=kept, capture_output=True, text=True)


def program(path: Path, does: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\necho "{path.name} $*" >> {CALLS}\n{does}\n')
    path.chmod(0o755)


def calls(folder: Path) -> list[str]:
    return (folder / CALLS).read_text().splitlines() if (folder / CALLS).exists() else []


@pytest.fixture
def checkout(tmp_path):
    "A folder with the Makefile and an environment in which everything is installed."
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("settings.ini", "setup.py"):
        (tmp_path / name).touch()
    for name in ("ic", "python", "nbdev_test", "prek"):
        program(tmp_path / ".venv" / "bin" / name)
    for name in ("venv", "torch", "report", "serve", "dev", "lint"):
        (tmp_path / ".venv" / f"{name}.stamp").write_text(f"{tmp_path.resolve()}\n")
    return tmp_path


def add_run(folder: Path, name: str, age: float, exported: bool = False) -> None:
    classifier = folder / "runs" / name / "classifier"
    classifier.mkdir(parents=True)
    if exported:
        (classifier / "model.onnx").touch()
    os.utime(classifier, (1e9 - age, 1e9 - age))


def test_make_alone_lists_every_target_that_the_pages_name(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    listed = {line.split()[0] for line in make(tmp_path).stdout.splitlines()}
    assert {"report", "test", "quick", "docs", "lint", "lab", "export", "clean", "docker", "serve", "lock"} <= listed
    pages = [*ROOT.glob("*.md"), *(ROOT / "nbs").rglob("*.ipynb")]
    named = {target for page in pages for target in re.findall(r"`make (\w+)", page.read_text(encoding="utf-8"))}
    assert named <= listed, named - listed


def test_serve_exports_the_newest_run_once_and_serves_it(checkout):
    add_run(checkout, "old", 100)
    add_run(checkout, "with a space", 1)
    assert make(checkout, "serve", "ARGS=--port 9000").returncode == 0
    assert calls(checkout) == ["ic export runs/with a space", "ic serve --port 9000 runs/with a space"]
    (checkout / CALLS).unlink()
    add_run(checkout, "newest", 0, exported=True)
    assert make(checkout, "serve").returncode == 0 and calls(checkout) == ["ic serve runs/newest"]
    (checkout / CALLS).unlink()
    assert make(checkout, "serve", "RUN=runs/old").returncode == 0 and calls(checkout) == ["ic export runs/old", "ic serve runs/old"]


def test_serve_says_what_to_do_without_a_run_and_stops_where_the_export_fails(checkout):
    done = make(checkout, "serve")
    assert done.returncode and "make report" in done.stderr and not calls(checkout)
    add_run(checkout, "first", 0)
    program(checkout / ".venv" / "bin" / "ic", "exit 4")
    assert make(checkout, "serve").returncode and calls(checkout) == ["ic export runs/first"]


def test_docker_builds_the_three_images_under_the_names_of_the_pages(checkout):
    program(checkout / "engine")
    assert make(checkout, "docker", "ENGINE=./engine", "BUILD_OPTIONS=--build-arg TORCH_INDEX=").returncode == 0
    wanted = {"image_classifier": "train", "image_classifier_lab": "lab", "image_classifier_serve": "serve"}
    assert calls(checkout)[1:] == [f"engine build --build-arg TORCH_INDEX= --target {target} --tag {tag} ." for tag, target in wanted.items()]
    page = (ROOT / "nbs/tutorials/containers.ipynb").read_text(encoding="utf-8")
    assert all(f"-t {tag} ." in page for tag in wanted)
    flow = yaml.safe_load((ROOT / ".github/workflows/docker.yml").read_text(encoding="utf-8"))
    steps = [step.get("run", "") for step in flow["jobs"]["smoke"]["steps"]]
    assert all(f"docker build --tag {tag} --target {target} ." in steps for tag, target in wanted.items())


@pytest.mark.parametrize("engine", ["./no-such-engine", "false"])
def test_docker_says_that_no_engine_answers(checkout, engine):
    done = make(checkout, "docker", f"ENGINE={engine}")
    assert done.returncode and f"no container engine answers ({engine})" in done.stderr and "ENGINE=podman" in done.stderr


def test_clean_removes_what_make_wrote_and_nothing_of_the_user(checkout):
    made = [".venv", "_docs/index.html", "_proc/x", ".pytest_cache/x", ".ruff_cache/x", ".hypothesis/x", ".coverage", ".coverage.host.1", "coverage.xml",
            "literate_image_classifier.egg-info/PKG-INFO", "image_classifier/core/__pycache__/io.pyc", "nbs/__pycache__/x.pyc"]
    kept = ["runs/first/config.yaml", "data/photo.jpg", "keys/private.pem", ".env", "nbs/.ipynb_checkpoints/mine.ipynb", "nbs/mine.ipynb", "dist/x.whl",
            "image_classifier/core/io.py", "runs/__pycache__/x.pyc", ".venv312/bin/python", "build/x"]
    for name in [*made[1:], *kept]:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).touch()
    for folder in ("tests", "benchmarks"):
        (checkout / folder).mkdir()
    for _ in range(2):
        assert make(checkout, "clean").returncode == 0
        assert [name for name in made if (checkout / name).exists()] == [] and [name for name in kept if not (checkout / name).exists()] == []


def test_clean_leaves_an_environment_that_make_did_not_make_here(checkout):
    for name in ("nbs", "image_classifier", "tests", "benchmarks"):
        (checkout / name).mkdir()
    (checkout / ".venv" / "venv.stamp").write_text("/somewhere/else\n")
    assert make(checkout, "clean").returncode == 0 and (checkout / ".venv" / "bin").is_dir()


def test_with_a_lock_nothing_is_installed_without_a_hash_but_torch_for_the_cpu(checkout):
    (checkout / "lock.txt").touch()
    (checkout / ".venv" / "torch.stamp").unlink()

    def _installs(*words: str) -> list[str]:
        return re.findall(r"pip --disable-pip-version-check install --quiet --no-compile (.*)", make(checkout, "-n", ".venv/dev.stamp", *words).stdout)
    plain, locked, cpu = _installs(), _installs("LOCK=lock.txt"), _installs("LOCK=lock.txt", "TORCH_INDEX=https://torch")
    assert [line.strip() for line in plain] == ["--editable '.[dev]'"]
    assert locked[0] == "--no-deps --require-hashes --requirement lock.txt" and locked[1].startswith("--no-deps --require-hashes --requirement requirements/torch.txt")
    assert cpu[1].startswith("--index-url https://torch --no-deps --requirement requirements/torch.in")
    assert all(lines[2].startswith("--no-deps --no-build-isolation --editable '.[dev]' &&") and lines[2].endswith("check") for lines in (locked, cpu))
