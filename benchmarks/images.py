"""Build the three images, run them as the pages say, and look: user, health, a report, a prediction over HTTP, read-only root, size.

    python benchmarks/images.py                             # with docker
    sudo ENGINE=buildah python benchmarks/images.py         # where no docker runs: Linux only, as root

Words for the engine come from the environment: $ENGINE (`docker --context other`), $BUILD_OPTIONS (`--build-arg TORCH_INDEX=`,
`--volume ...` for certificates and pip's configuration). Each container runs without a network (a server: one that only this machine
reaches), without capabilities, on a read-only root, with /tmp in memory. buildah only builds; here its images run in namespaces of our own.
Only Python's own library is used. The last line is one JSON object; the exit code is 1 where a bar is missed, 77 without an engine."""
import contextlib
import json
import os
import platform
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIZES = {"train": 1.2e9, "lab": 1.8e9, "serve": 0.45e9}  # bytes at most, base image included
PORTS = {"lab": 8888, "serve": 8000}
WRITES = """
import os, sys
for folder in sys.argv[1:]:
    try:
        with open(os.path.join(folder, "probe"), "w"): os.remove(os.path.join(folder, "probe"))
        print(folder)
    except OSError: pass
"""
PICTURE = """
from PIL import Image
from sklearn.datasets import load_digits
Image.fromarray((load_digits().images[3] * 15.9).astype("uint8")).save("runs/three.png")
"""
FETCH = """
import json, sys, urllib.error, urllib.request
url, path, headers = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
class Stay(urllib.request.HTTPRedirectHandler):
    redirect_request = lambda *words: None
request = urllib.request.Request(url, open(path, "rb").read() if path else None, headers)
try: answer = urllib.request.build_opener(urllib.request.ProxyHandler({}), Stay).open(request, timeout=20)
except urllib.error.HTTPError as problem: answer = problem
print(json.dumps([answer.status, answer.read().decode()]))
"""


class Failed(Exception):
    "A command that should have worked."


def ran(words: list, check: bool = True, **options) -> str:
    "Run a command and return what it prints."
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **options)
    if check and done.returncode:
        raise Failed(f"{shlex.join(str(word) for word in words)[-300:]}: exit {done.returncode}\n{done.stdout[-1500:]}{done.stderr[-3000:]}")
    return done.stdout


class Docker:
    "An engine with docker's commands. A volume is (name, folder in the container, 'rw' or 'ro')."

    def __init__(self, words: list[str]):
        self.words, self.volumes = words, []

    def build(self, target: str) -> None:
        "Build one target of the Dockerfile."
        options = ["--target", target, "--tag", tag(target), *shlex.split(os.environ.get("BUILD_OPTIONS", ""))]
        done = subprocess.run([*self.words, *self.building(), *options, str(ROOT)], stdout=sys.stderr)
        if done.returncode:
            raise Failed(f"the image {target} was not built")

    def building(self) -> list[str]:
        return ["build"]

    def config(self, target: str) -> dict:
        "User, Env, Entrypoint, Cmd, WorkingDir, Healthcheck and Labels of an image."
        return json.loads(ran([*self.words, "image", "inspect", tag(target)]))[0]["Config"]

    def size(self, target: str) -> float:
        "The bytes of an image, with those of its base."
        return float(json.loads(ran([*self.words, "image", "inspect", tag(target)]))[0]["Size"])

    def volume(self, target: str, folder: str) -> str:
        "An empty volume, which takes owner and content of `folder` in the image when it is first used."
        self.volumes.append(ran([*self.words, "volume", "create"]).strip())
        return self.volumes[-1]

    def flags(self, volumes: list[tuple], entrypoint: str | None) -> list[str]:
        mounts = [word for name, folder, mode in volumes for word in ("--volume", f"{name}:{folder}:{mode}")]
        return ["--rm", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", *mounts,
                *(["--entrypoint", entrypoint] if entrypoint else [])]

    def run(self, target: str, command: list[str], volumes: list[tuple] = (), entrypoint: str | None = None) -> str:
        "Run a container without a network until it ends; return its output."
        return ran([*self.words, "run", "--network", "none", *self.flags(volumes, entrypoint), tag(target), *command])

    @contextlib.contextmanager
    def server(self, target: str, volumes: list[tuple], command: list[str] = ()) -> Iterator["Server"]:
        "A container that listens, until the block ends."
        name = ran([*self.words, "run", "--detach", "--publish", f"127.0.0.1::{PORTS[target]}", *self.flags(volumes, None), tag(target), *command]).strip()
        try:
            port = ran([*self.words, "port", name, str(PORTS[target])]).split()[0].rsplit(":", 1)[1]

            def _log() -> str:
                done = subprocess.run([*self.words, "logs", name], capture_output=True, text=True)
                return done.stdout + done.stderr
            yield Server(f"http://127.0.0.1:{port}", [*self.words, "exec", name], [], _log)
        finally:
            ran([*self.words, "stop", name], check=False)

    def clear(self) -> None:
        "Remove the volumes."
        for name in self.volumes:
            ran([*self.words, "volume", "rm", "--force", name], check=False)


class Server:
    "A container that listens: `inside` begins a command in it, `outside` one that reaches it."

    def __init__(self, address: str, inside: list[str], outside: list[str], log):
        self.address, self.inside, self.outside, self.log = address, inside, outside, log

    def get(self, path: str, file: str = "", **headers: str) -> tuple[int, str]:
        "The status and text of an answer; with a file, its bytes are posted."
        status, text = json.loads(ran([*self.outside, sys.executable, "-c", FETCH, self.address + path, file, json.dumps(headers)]))
        return status, text

    def healthy(self, command: list[str], seconds: float = 90) -> float:
        "Seconds until the image's own health check passes."
        begun = time.monotonic()
        while subprocess.run([*self.inside, *command], capture_output=True).returncode:
            if time.monotonic() - begun > seconds:
                raise Failed(f"not healthy after {seconds:.0f} s\n{self.log()[-3000:]}")
            time.sleep(0.2)
        return time.monotonic() - begun


# What an engine does for a container: its own mounts, network and processes; a read-only root with /proc, /dev and /tmp; no capabilities.
BOX = """
set -e
root=$1 user=$2 folder=$3; shift 3
ip link set lo up
box=$(mktemp -d)
mount --bind "$root" "$box"
mount -t proc proc "$box/proc"
mount --rbind /dev "$box/dev"
mount -t tmpfs -o size=64m tmpfs "$box/dev/shm"
mount -t tmpfs -o size=1g,noexec,nosuid,nodev tmpfs "$box/tmp"
while [ "$1" != -- ]; do
  mkdir -p "$box$2"; mount --bind "$1" "$box$2"; mount -o "remount,bind,$3" "$box$2"; shift 3
done
shift
mount -o remount,bind,ro "$box"
exec chroot "$box" setpriv --reuid="$user" --regid="$user" --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs \
  env --ignore-environment --chdir="$folder" "$@"
"""


class Buildah(Docker):
    "buildah builds; `unshare`, `mount` and `setpriv` run what it built."

    def __init__(self, words: list[str]):
        super().__init__(words)
        self.roots, self.place = {}, Path(tempfile.mkdtemp(prefix="images-"))
        self.place.chmod(0o755)

    def building(self) -> list[str]:
        return ["build", "--format", "docker"]

    def config(self, target: str) -> dict:
        return json.loads(ran([*self.words, "inspect", "--type", "image", tag(target)]))["Docker"]["config"]

    def size(self, target: str) -> float:
        number, unit = ran([*self.words, "images", "--format", "{{.Size}}", tag(target)]).split()[:2]
        return float(number) * {"KB": 1e3, "MB": 1e6, "GB": 1e9}[unit]

    def root(self, target: str) -> str:
        "The folder that holds an image's files."
        if target not in self.roots:
            container = ran([*self.words, "from", "--pull-never", tag(target)]).strip()
            self.roots[target] = container, ran([*self.words, "mount", container]).strip()
        return self.roots[target][1]

    def volume(self, target: str, folder: str) -> str:
        self.volumes.append(str(self.place / f"volume{len(self.volumes)}"))
        ran(["cp", "--archive", self.root(target) + folder, self.volumes[-1]])
        return self.volumes[-1]

    def boxed(self, target: str, command: list[str], volumes: list[tuple], entrypoint: str | None) -> list[str]:
        config = self.config(target)
        command = [entrypoint, *command] if entrypoint else [*(config.get("Entrypoint") or []), *(command or config.get("Cmd") or [])]
        mounts = [str(word) for volume in volumes for word in volume]
        return ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", BOX, "box", self.root(target), config["User"],
                config.get("WorkingDir") or "/", *mounts, "--", *config["Env"], *command]

    def run(self, target: str, command: list[str], volumes: list[tuple] = (), entrypoint: str | None = None) -> str:
        return ran(self.boxed(target, command, volumes, entrypoint))

    @contextlib.contextmanager
    def server(self, target: str, volumes: list[tuple], command: list[str] = ()) -> Iterator[Server]:
        config, log = self.config(target), self.place / f"{target}.log"
        with open(log, "w") as file:
            process = subprocess.Popen(self.boxed(target, list(command), volumes, None), stdout=file, stderr=file)
        try:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            while not (child := children.read_text().strip()) and process.poll() is None:
                time.sleep(0.05)
            inside = ["nsenter", "--target", child, "--mount", "--net", "--pid", "--root", "setpriv", f"--reuid={config['User']}", f"--regid={config['User']}",
                      "--clear-groups", "env", "--ignore-environment", *config["Env"]]
            yield Server(f"http://127.0.0.1:{PORTS[target]}", inside, ["nsenter", "--target", child, "--net"], log.read_text)
        finally:
            # The first process of the box: it changed its user, so it would outlive `unshare`; all others of the box end with it.
            ran(["kill", "-KILL", child], check=False)
            process.wait()

    def clear(self) -> None:
        for container, _ in self.roots.values():
            ran([*self.words, "rm", container], check=False)
        shutil.rmtree(self.place, ignore_errors=True)


def tag(target: str) -> str:
    "The name that the pages give to a target's image."
    return "image_classifier" if target == "train" else f"image_classifier_{target}"


class Table:
    "Rows of what was looked at; a row is good or not."

    def __init__(self):
        self.rows = []

    def add(self, target: str, what: str, found: object, good: bool) -> None:
        self.rows.append({"image": target, "what": what, "found": found, "good": bool(good)})
        print(f"{target:6} {what:58} {found!s:42} {'ok' if good else 'MISSED'}", flush=True)


def same_for_all(engine: Docker, target: str, table: Table, writable: list[str], volumes: list[tuple]) -> dict:
    "What each image must keep: a user that is not root, a root that it cannot write to, its size."
    config, size = engine.config(target), engine.size(target)
    user = engine.run(target, ["-c", "import os; print(os.getuid())"], volumes, "python").strip()
    table.add(target, "user", user, user not in ("", "0") and config["User"] not in ("", "0", "root"))
    places = ["/", "/app", "/etc", "/opt/image_classifier", "/usr/local/bin", "/var/tmp", *writable]
    wrote = engine.run(target, ["-c", WRITES, *places], volumes, "python").split()
    table.add(target, "can write to", " ".join(wrote), wrote == writable)
    table.add(target, f"size (at most {SIZES[target] / 1e6:,.0f} MB)", f"{size / 1e6:,.0f} MB", size <= SIZES[target])
    return config


def look_at_train(engine: Docker, table: Table, runs: str) -> None:
    volumes = [(runs, "/app/runs", "rw")]
    same_for_all(engine, "train", table, ["/tmp", "/app/runs"], volumes)
    begun = time.monotonic()
    engine.run("train", ["report", "data=digits", "epochs=1", "--out", "runs/first"], volumes)
    files = engine.run("train", ["-c", "import os; print(*os.listdir('runs/first'))"], volumes, "python").split()
    table.add("train", "ic report without a network", f"{time.monotonic() - begun:.0f} s", {"report.html", "report.ipynb", "metrics.json"} <= set(files))
    begun = time.monotonic()
    engine.run("train", ["nbs/train.ipynb", "runs/train.ipynb", "-p", "epochs", "1", "-p", "run_dir", "runs/second"], volumes, "papermill")
    files = engine.run("train", ["-c", "import os; print(*os.listdir('runs'), *os.listdir('runs/second'))"], volumes, "python").split()
    table.add("train", "papermill nbs/train.ipynb", f"{time.monotonic() - begun:.0f} s", {"train.ipynb", "metrics.json"} <= set(files))


def look_at_serve(engine: Docker, table: Table, runs: str) -> None:
    "A server for the classifier that `train` wrote and `lab` exported; it must answer as `ic predict` does."
    models = [(runs, "/runs", "ro")]
    config = same_for_all(engine, "serve", table, ["/tmp"], models)
    engine.run("train", ["-c", PICTURE], [(runs, "/app/runs", "rw")], "python")
    told = json.loads(engine.run("train", ["predict", "runs/first", "runs/three.png", "--json"], [(runs, "/app/runs", "ro")]).splitlines()[-1])
    torch = engine.run("serve", ["-c", "import importlib.util; print(importlib.util.find_spec('torch'))"], models, "python").strip()
    table.add("serve", "torch", torch, torch == "None")
    with tempfile.TemporaryDirectory() as place:
        picture = Path(place, "three.png")
        picture.write_bytes(bytes.fromhex(engine.run("serve", ["-c", "print(open('/runs/three.png', 'rb').read().hex())"], models, "python")))
        with engine.server("serve", models, ["/runs/first/classifier", "--host", "0.0.0.0"]) as server:
            seconds = server.healthy(config["Healthcheck"]["Test"][1:])
            table.add("serve", "healthy after", f"{seconds:.1f} s", True)
            status, text = server.get("/predict", str(picture), **{"Content-Type": "image/png"})
            answer = json.loads(text)
            expected = told["predictions"][0]
            good = status == 200 and answer["predicted_class"] == expected["predicted_class"] and abs(answer["confidence"] - expected["confidence"]) < 1e-4
            table.add("serve", "a prediction over HTTP, as ic predict gives it", f"{answer.get('predicted_class')}, {answer.get('confidence', 0):.4f}", good)


def look_at_lab(engine: Docker, table: Table, runs: str) -> None:
    volumes = [(runs, "/app/runs", "rw"), (engine.volume("lab", "/app/nbs"), "/app/nbs", "rw"), (engine.volume("lab", "/app/data"), "/app/data", "rw")]
    config = same_for_all(engine, "lab", table, ["/tmp", "/app/nbs", "/app/runs", "/app/data"], volumes)
    set_by_default = [word for word in (*config["Env"], *config["Entrypoint"], *config["Cmd"]) if re.search(r"token|password", word, re.I)]
    with engine.server("lab", volumes) as server:
        table.add("lab", "healthy after", f"{server.healthy(config['Healthcheck']['Test'][1:]):.1f} s", True)
        token = re.search(r"token=([0-9a-f]{40,})", server.log())
        denied = [server.get("/api/contents")[0], server.get("/lab")[0], server.get("/api/contents", Authorization=f"token {secrets.token_hex(24)}")[0]]
        table.add("lab", "without the token: files, page, wrong token", denied, denied == [403, 302, 403] and not set_by_default)
        status, text = server.get("/api/contents/nbs/tutorials", Authorization=f"token {token[1] if token else ''}")
        table.add("lab", "with the token from the log", status, status == 200 and "getting_started.ipynb" in text)
    begun = time.monotonic()
    engine.run("lab", ["execute", "nbs/tutorials/getting_started.ipynb"], volumes, "jupyter")
    table.add("lab", "the first notebook, executed without a network", f"{time.monotonic() - begun:.0f} s", True)
    engine.run("lab", ["export", "runs/first"], volumes, "ic")
    files = engine.run("lab", ["-c", "import os; print(*os.listdir('runs/first/classifier'))"], volumes, "python").split()
    table.add("lab", "ic export of what train wrote", "model.onnx" if "model.onnx" in files else "nothing", "model.onnx" in files)


def engine_of_this_machine() -> Docker:
    "What $ENGINE names, if it answers."
    words = shlex.split(os.environ.get("ENGINE", "docker"))
    kind = Buildah if Path(words[0]).name == "buildah" else Docker
    try:
        answers = subprocess.run([*words, "images"], capture_output=True).returncode == 0
    except OSError:
        answers = False
    if not answers:
        print(f"skipped: {words[0]} does not answer. ENGINE=buildah does without it", file=sys.stderr)
        sys.exit(77)
    if kind is Buildah and (os.getuid() or not all(map(shutil.which, ("unshare", "nsenter", "setpriv", "ip", "chroot")))):
        print("skipped: images built with buildah run here as root, with unshare, nsenter, setpriv, ip and chroot", file=sys.stderr)
        sys.exit(77)
    return kind(words)


def main() -> int:
    engine, table, seconds, good = engine_of_this_machine(), Table(), {}, False
    try:
        for target in SIZES:
            begun = time.monotonic()
            engine.build(target)
            seconds[target] = round(time.monotonic() - begun)
        runs = engine.volume("train", "/app/runs")
        look_at_train(engine, table, runs)
        look_at_lab(engine, table, runs)
        look_at_serve(engine, table, runs)
        good = all(row["good"] for row in table.rows)
    except Failed as problem:
        print(f"error: {problem}", file=sys.stderr)
    finally:
        engine.clear()
    print(json.dumps({"benchmark": "images", "good": good, "rows": table.rows, "build_seconds": seconds, "engine": Path(engine.words[0]).name,
                      "machine": {"python": platform.python_version(), "cores": os.cpu_count(), "processor": platform.machine()}}))
    return not good


if __name__ == "__main__":
    sys.exit(main())
