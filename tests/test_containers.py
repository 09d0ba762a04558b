"""The files that make the containers: what each image runs as, what goes into it, and what a computer opens to the network. Nothing is built here;
benchmarks/images.py builds and runs them."""
import json
import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from literate import ROOT

TARGETS = ("train", "lab", "serve")


def instructions() -> list[tuple[str, str, str]]:
    "The Dockerfile as (stage, instruction, words); before the first FROM the stage is ''."
    lines = [line for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    found, stage = [], ""
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        name, _, words = line.strip().partition(" ")
        if name == "FROM":
            stage = words.split()[-1]
        found.append((stage, name, words.strip()))
    return found


def bases() -> dict[str, str]:
    "Each stage and what it builds on."
    return {stage: words.split()[0] for stage, name, words in instructions() if name == "FROM"}


def inherited(target: str, name: str) -> list[str]:
    "An instruction's words in a stage and in those it builds on, the nearest and last first."
    found = [words for stage, instruction, words in instructions() if (stage, instruction) == (target, name)][::-1]
    return found + (inherited(bases()[target], name) if bases()[target] in bases() else [])


def ignored(path: str) -> bool:
    "Whether .dockerignore keeps a path out: the last rule that matches it, or a folder above it, decides."
    out = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        rule = line.strip().removeprefix("!").removeprefix("/")
        if not rule or line.startswith("#"):
            continue
        parts = Path(path).parts
        above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        deep = rule.removeprefix("**/")
        if any(fnmatch(one, rule) and one.count("/") == rule.count("/") or (deep != rule and fnmatch(one.rsplit("/", 1)[-1], deep)) for one in above):
            out = not line.startswith("!")
    return out


def compose() -> dict:
    return yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))


SERVICES = sorted(compose()["services"])


def test_the_targets_are_there_and_train_is_the_default():
    assert set(TARGETS) <= set(bases()) and list(bases())[-1] == "train"


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_without_root(target):
    user = inherited(target, "USER")[0]
    assert re.fullmatch(r"[1-9]\d*", user), f"a number other than 0, which an orchestrator can check: {user}"


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_has_a_command_and_says_how_its_health_is_checked(target):
    assert inherited(target, "ENTRYPOINT")[0].startswith("["), "a list: signals reach the program, not a shell"
    health = inherited(target, "HEALTHCHECK")[0]
    assert health == "NONE" if target == "train" else json.loads(health.partition("CMD ")[2])[0] == "python"
    labels = " ".join(inherited(target, "LABEL"))
    assert all(f"org.opencontainers.image.{name}=" in labels for name in ("title", "source", "licenses"))


def test_every_base_image_has_a_version():
    stages = set()
    for stage, base in bases().items():
        assert base in stages or (":" in base and not base.endswith(":latest")), base
        stages.add(stage)
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("Dockerfile", "compose.yaml", ".devcontainer/devcontainer.json")]
    assert not any(":latest" in text for text in texts)
    assert not any("$" in base for base in bases().values()), "dependabot reads no build argument in FROM"
    assert len(set(bases().values()) - set(bases())) == 1, "all images have one Python, named once"


def test_nothing_is_fetched_but_with_pip_and_apt():
    assert not [words for _, name, words in instructions() if name == "ADD"]
    assert not [words for _, name, words in instructions() if name == "RUN" and re.search(r"\b(curl|wget|git clone)\b", words)]
    assert any("--require-hashes" in words for stage, name, words in instructions() if (stage, name) == ("serve-build", "RUN"))


def test_every_command_in_the_comments_opens_ports_to_this_computer_only():
    "Docker opens a port to the whole network unless an address stands before it, and the server has no key by default."
    ports = re.findall(r"(?:-p|--publish) ([\d.:]*:\d+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert len(ports) == 2 and all(port.startswith("127.0.0.1:") for port in ports), ports


def copied(stages: tuple[str, ...] | None = None) -> list[str]:
    "Every path that the Dockerfile, or some of its stages, copies out of the checkout."
    found = []
    for stage, name, words in instructions():
        if name == "COPY" and "--from=" not in words and (stages is None or stage in stages):
            found += [word for word in words.split()[:-1] if not word.startswith("--")]
    return found


@pytest.mark.parametrize("path", sorted(set(copied())))
def test_what_is_copied_exists_and_git_has_it(path):
    assert (ROOT / path).exists() and not ignored(path)
    try:
        tracked = subprocess.run(["git", "ls-files", "--", path], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as problem:
        pytest.skip(f"no git checkout: {problem}")
    assert tracked, f"a fresh clone has no {path}"


@pytest.mark.parametrize("stage", ["build", "lab"])
def test_what_the_package_links_to_is_copied_with_it(stage):
    "A link that leads nowhere is left out of the wheel without a word, and `ic report` would have no notebook."
    ends = {path.resolve().relative_to(ROOT).as_posix() for path in (ROOT / "image_classifier").rglob("*") if path.is_symlink()}
    assert ends and all(any(end == path or end.startswith(path + "/") for path in copied((stage,))) for end in ends)


def test_the_images_get_the_sources_and_nothing_else():
    out = ["runs/first/config.yaml", ".venv/bin/python", ".git/config", "data/photo.jpg", "keys/private.pem", ".env", "tests/conftest.py", "nbs/nbdev.yml",
           "image_classifier/core/__pycache__/io.cpython-312.pyc", "nbs/core/.ipynb_checkpoints/10_errors-checkpoint.ipynb"]
    within = ["settings.ini", "setup.py", "LICENSE", "README.md", "image_classifier/core/io.py", "image_classifier/web/index.html", "requirements/serve.txt",
              "nbs/train.ipynb", "nbs/core/10_errors.ipynb"]
    assert [path for path in out if not ignored(path)] == [] and [path for path in within if ignored(path)] == []


def test_the_services_are_targets_of_the_dockerfile():
    builds = {name: service["build"] for name, service in compose()["services"].items()}
    assert {name: build["target"] for name, build in builds.items()} == {"lab": "lab", "server": "serve"}
    args = {words.partition("=")[0] for _, name, words in instructions() if name == "ARG"}
    assert all(build["context"] == "." and set(build.get("args", {})) <= args for build in builds.values())


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_listens_on_this_computer_only(name):
    service = compose()["services"][name]
    assert service["ports"] and all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in service["ports"])
    exposed = inherited(service["build"]["target"], "EXPOSE")
    assert [port.rsplit(":", 1)[1] for port in service["ports"]] == exposed
    assert "network_mode" not in service


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_do_no_more_than_it_needs(name):
    service = compose()["services"][name]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "devices", "pid", "ipc"} & set(service)
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert service["healthcheck"]["interval"] and not service["healthcheck"].get("disable")
    assert not any("docker.sock" in str(volume) for volume in service["volumes"])


def test_the_classifier_is_mounted_read_only_and_the_notebooks_can_be_written_to():
    lab, server = ({volume["target"]: volume.get("read_only", False) for volume in compose()["services"][name]["volumes"]} for name in ("lab", "server"))
    assert server == {"/model": True} and lab == {"/app/nbs": False, "/app/runs": False, "/app/data": False}


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml", ".devcontainer/devcontainer.json"])
def test_no_password_and_no_token_is_set(name):
    "JupyterLab makes a token at each start; the server's keys come from its user."
    lines = [line.split("#")[0] for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("//")]
    assert not [line for line in lines if re.search(r"passw|secret|token|api_?key|credential", line, re.I)]


def test_the_dev_container_opens_the_clone_in_the_lab():
    lines = (ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8").splitlines()
    told = json.loads("\n".join(line for line in lines if not line.lstrip().startswith("//")))
    assert (ROOT / ".devcontainer" / told["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile" and told["build"]["target"] == "lab"
    assert (ROOT / ".devcontainer" / told["build"]["context"]).resolve() == ROOT
    place = re.search(r"target=([^,]+)", told["workspaceMount"])[1]
    assert place == told["workspaceFolder"] == inherited("lab", "WORKDIR")[0], "the image imports the package from there"
    assert any(re.search(rf"useradd [^&]*\b{told['remoteUser']}\b", words) for words in inherited("lab", "RUN"))
    assert all((ROOT / name).is_file() for name in told["customizations"]["codespaces"]["openFiles"])
