"""The targets of the Makefile, each in a folder of its own with programs that write down how they were called: nothing is installed or built."""
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from literate import ROOT

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
CALLS = "calls.txt"


def environment() -> dict[str, str]:
    "What make sees, without what an outer make or its user has set."
    outer = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "LOCK", "TORCH_INDEX", "RUN", "ARGS", "ENGINE", "BUILD_OPTIONS", "OVERRIDES", "VENV", "PYTHON"}
    return {name: value for name, value in os.environ.items() if name not in outer}


def make(folder: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["make", *words], cwd=folder, env=environment(), capture_output=True, text=True)


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


def files(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*") if path.name != CALLS}


@pytest.fixture
def python(checkout):
    "A Python whose `-m venv` makes an environment in which every installation succeeds."
    program(checkout / "python", 'if [ "$2" = venv ]; then mkdir -p $3/bin; touch $3/pyvenv.cfg; printf "#!/bin/sh\\n" | tee $3/bin/ic > $3/bin/python; chmod +x $3/bin/*; fi')
    return "PYTHON=./python"


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


def test_serve_finds_the_runs_of_several_seeds(checkout):
    for age, name in enumerate(["seeds/seed_1", "seeds/seed_0", "alone"]):
        add_run(checkout, name, age, exported=True)
    assert make(checkout, "serve").returncode == 0 and calls(checkout) == ["ic serve runs/seeds/seed_1"]


@pytest.mark.parametrize("name", ['a"b', "a'b", "a$b $$HOME $(HOME) `id`", "a\\b;c"])
def test_a_served_run_may_have_any_name(checkout, name):
    program(checkout / ".venv" / "bin" / "ic", f'for one; do printf "%s\\n" "$one" >> {CALLS}; done')
    (checkout / "runs").mkdir()
    add_run(checkout, name, 0, exported=True)
    assert make(checkout, "serve", f"RUN=runs/{name}").returncode == 0 and calls(checkout)[-2:] == ["serve", f"runs/{name}"]


@pytest.mark.parametrize("made", [
    {"photo.jpg": "mine"}, {"pyvenv.cfg": "uv", "bin/python": ""}, {"pyvenv.cfg": "", "venv.stamp": ""}, {"venv.stamp": "/a/b\n"}, {"venv.stamp": "mine\n", "x": ""}])
@pytest.mark.parametrize("name", ["mydata", ".venv"])
def test_a_folder_that_make_did_not_make_is_left_as_it_is(checkout, python, made, name):
    shutil.rmtree(checkout / ".venv")
    for file, text in made.items():
        (checkout / name / file).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name / file).write_text(text)
    before = files(checkout)
    done = make(checkout, "report", python, f"VENV={name}")
    assert done.returncode == 2 and done.stderr.startswith(f"error: {name} holds files that make did not write. name another: make report VENV=") and files(checkout) == before


@pytest.mark.parametrize("name", [".", "..", "Makefile", "./runs/", "runs/../runs"])
def test_neither_the_checkout_nor_its_folders_become_the_environment(checkout, python, name):
    add_run(checkout, "first", 0)
    before = files(checkout)
    done = make(checkout, "report", python, f"VENV={name}")
    assert done.returncode == 2 and "holds files that make did not write" in done.stderr and files(checkout) == before


@pytest.mark.parametrize("stamps", [{}, {"venv.stamp": "/moved/from\n"}, {"report.stamp": ""}, {"dev.stamp": ""}, {"venv.stamp": "unfinished\n"}])
def test_an_environment_that_make_made_elsewhere_or_in_part_is_made_again(checkout, python, stamps):
    shutil.rmtree(checkout / ".venv")
    (checkout / ".venv").mkdir()
    made = {"pyvenv.cfg": "", ".old": "", "lib/old.py": ""} | stamps if stamps else {}
    for name, text in made.items():
        (checkout / ".venv" / name).parent.mkdir(exist_ok=True)
        (checkout / ".venv" / name).write_text(text)
    assert (done := make(checkout, "report", python)).returncode == 0, done.stderr
    assert (checkout / ".venv" / "venv.stamp").read_text() == f"{checkout.resolve()}\n" and (checkout / ".venv" / "report.stamp").exists()
    assert not (checkout / ".venv" / "lib").exists() and not (checkout / ".venv" / ".old").exists()
    assert make(checkout, "report", python).returncode == 0 and sum("venv" in line for line in calls(checkout)) == 1


@pytest.mark.parametrize("when", ["venv", "install"])
def test_an_installation_that_was_interrupted_is_done_by_the_next_make(checkout, python, when):
    shutil.rmtree(checkout / ".venv")
    waits = f"echo waits >> {CALLS}; exec sleep 60"
    if when == "install":
        waits = f'echo "[ -e again ] || {{ {waits}; }}" > $3/bin/python'
    program(checkout / "slow", f'if [ "$2" = venv ]; then mkdir -p $3/bin; touch $3/pyvenv.cfg $3/bin/python $3/bin/ic; chmod +x $3/bin/*; {waits}; fi')
    begun = subprocess.Popen(["make", "report", "PYTHON=./slow"], cwd=checkout, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    for _ in range(400):
        if "waits" in calls(checkout) or begun.poll() is not None:
            break
        time.sleep(0.02)
    os.killpg(begun.pid, signal.SIGINT)
    assert begun.wait(20) and "waits" in calls(checkout) and not (checkout / ".venv" / "report.stamp").exists()
    (checkout / "again").touch()
    assert (done := make(checkout, "report", python)).returncode == 0, done.stderr
    assert (checkout / ".venv" / "report.stamp").exists() and ("python -m venv .venv" in calls(checkout)) == (when == "venv")


@pytest.mark.parametrize("name", ["my env", "", "a;b", 'a"b', "a'b", "a$b", "-x", "a:b", "a=b", "#b", "a\\b", "a*", "a%", "~a"])
def test_a_name_that_make_or_the_shell_would_split_is_refused(checkout, name):
    before = files(checkout)
    done = make(checkout, "test", f"VENV={name}")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "name another: VENV=" in done.stderr and files(checkout) == before


@pytest.mark.parametrize("target", ["test", "report", "serve"])
def test_a_python_that_does_not_exist_is_an_error_with_and_without_an_environment(checkout, target):
    for words in ([], ["VENV=.venv2"]):
        done = make(checkout, target, "PYTHON=python3.99", *words)
        assert done.returncode == 2 and done.stderr.startswith(f"error: Python 3.11 or newer is needed (python3.99). name one: make {target} PYTHON=") and not calls(checkout)
    assert not (checkout / ".venv2").exists()


def test_docker_builds_the_three_images_under_the_names_of_the_pages(checkout):
    program(checkout / "engine")
    assert make(checkout, "docker", "ENGINE=./engine", "BUILD_OPTIONS=--build-arg TORCH_INDEX=").returncode == 0
    wanted = {"image_classifier": "train", "image_classifier_lab": "lab", "image_classifier_serve": "serve"}
    assert calls(checkout)[1:] == [f"engine build --build-arg TORCH_INDEX= --target {target} --tag {tag} ." for tag, target in wanted.items()]
    page = (ROOT / "nbs/howto/containers.ipynb").read_text(encoding="utf-8")
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
