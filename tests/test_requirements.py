"""The hashed files in requirements/: they hold what settings.ini asks for, one version of each package, and nothing without a hash. `make lock` renews them."""
import ast
import re

import pytest
from literate import ROOT, SETTINGS
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDER = ROOT / "requirements"
PYTHONS = ("3.11", "3.12", "3.13")
TORCH = {"torch", "torchvision"}
FILES = sorted(path.stem for path in FOLDER.glob("*.txt"))
every_file = pytest.mark.parametrize("name", FILES)


def blocks(name: str) -> list[str]:
    "A file's packages: a line each, with the lines of hashes below it."
    text = re.sub(r"^ *#.*\n", "", (FOLDER / f"{name}.txt").read_text(encoding="utf-8"), flags=re.M)
    return re.split(r"\n(?=\S)", text.strip())


def pinned(name: str, python: str) -> dict[str, str]:
    "The packages of a file and their versions, for a Python on Linux."
    found = {}
    for block in blocks(name):
        package, version, marker = re.match(r"([\w.-]+)(?:\[[\w,-]+\])?==([\w.]+)(?: ; (.*?))?(?: \\)?(?:\n|$)", block).groups()
        here = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": "linux", "platform_system": "Linux", "os_name": "posix",
                "platform_machine": "x86_64", "implementation_name": "cpython", "platform_python_implementation": "CPython"}
        if not marker or Marker(marker).evaluate(here):
            assert canonicalize_name(package) not in found, f"{package} twice"
            found[canonicalize_name(package)] = version
    return found


def asked(*extras: str) -> list[Requirement]:
    "What settings.ini asks for, with the extras that setup.py adds to `dev`."
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    tested = ast.literal_eval(re.search(r"^tested = (\(.*\))$", setup, re.M)[1])
    keys = ["requirements", *(f"{extra}_requirements" for extra in (*extras, *(tested if "dev" in extras else ())))]
    return [Requirement(need) for key in keys for need in SETTINGS[key].split()]


def listed(name: str) -> list[Requirement]:
    "The lines of a file that is written by hand."
    return [Requirement(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]


def unmet(needs: list[Requirement], versions: dict[str, str]) -> list[str]:
    return [str(need) for need in needs if not need.specifier.contains(versions.get(canonicalize_name(need.name), "0"), prereleases=True)
            or canonicalize_name(need.name) not in versions]


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name, extras", [("train", ("report", "pretrained")), ("lab", ("dev",)), ("ci", ("dev", "lint"))])
def test_a_file_holds_what_settings_ini_asks_for(name, extras, python):
    assert not unmet(asked(*extras), pinned(name, python) | pinned("torch", python)), "run make lock"


@pytest.mark.parametrize("python", PYTHONS)
def test_a_server_gets_what_the_extra_and_the_light_core_need_and_no_torch(python):
    versions, light = pinned("serve", python), listed("serve.in")
    assert not unmet([*light, *(Requirement(need) for need in SETTINGS["serve_requirements"].split())], versions), "run make lock"
    assert not TORCH & set(versions)
    assert {need.name for need in asked("serve")} >= {need.name for need in light} - {"setuptools", "starlette"}


@every_file
def test_every_package_has_a_hash_and_nothing_of_a_machine(name):
    text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}\b", block) for block in blocks(name))
    assert "make lock" in text and not re.search(r"://|index-url|find-links|(?:^|\s)/", text)


@pytest.mark.parametrize("python", PYTHONS)
def test_a_package_has_one_version_in_all_files(python):
    versions = [item for name in FILES for item in pinned(name, python).items()]
    assert len(set(versions)) == len(dict(versions)), sorted(item for item in set(versions) if len({v for n, v in versions if n == item[0]}) > 1)


@pytest.mark.parametrize("python", PYTHONS)
def test_torch_and_cuda_are_in_a_file_of_their_own(python):
    torch = pinned("torch", python)
    assert {need.name: str(need.specifier) for need in listed("torch.in")} == {name: f"=={torch[name]}" for name in TORCH}
    for name in set(FILES) - {"torch"}:
        assert not [package for package in pinned(name, python) if package in TORCH or re.match("nvidia|cuda|triton", package)]
