"""What the scripts that try a server's patience share: a server with a small network, and what it uses, counts and answers meanwhile."""
import asyncio
import contextlib
import http.client
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from overload import resident
from serving import make_artifact, start

KEY = "0123456789abcdef-benchmark"


class Running(NamedTuple):
    "A server that runs."
    port: int
    process: int
    log: Path

    def megabytes(self) -> float:
        "Return its resident memory."
        return resident(self.process)

    def descriptors(self) -> int:
        "Return how many files and sockets it has open."
        return sum(1 for _ in Path(f"/proc/{self.process}/fd").iterdir())

    def statuses(self) -> Counter:
        "Return how many requests it has answered, by status, probes aside; 499 counts clients that went."
        found: Counter = Counter()
        for status, count in re.findall(r'requests_total\{path="(?!/livez|/readyz).*status="(\d+)"\} ([\d.e+]+)', self.get("/metrics")[1].decode()):
            found[status] += int(float(count))
        return found

    def inside(self) -> float:
        "Return how many images wait or are computed."
        shown = re.search(r"image_classifier_inside ([\d.]+)", self.get("/metrics")[1].decode())
        assert shown, "the metrics have no gauge"
        return float(shown[1])

    def get(self, path: str) -> tuple[int, bytes]:
        "Return the status and the content of a page."
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"X-API-Key": KEY})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def errors(self) -> list[str]:
        "Return the internal errors that it has logged, and what else is not a line of its log."
        lines = self.log.read_text().splitlines()
        return [line for line in lines if not line.startswith("{") or json.loads(line)["event"] == "error"]


@contextlib.contextmanager
def running_server(port: int, *words: str) -> Iterator[Running]:
    "Run `ic serve` on the first core with a network of random weights for 32 px; at the end it must leave in order."
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = [sys.executable, "-m", "image_classifier.cli", "serve", make_artifact(folder, "simple_cnn", 32), "--no-access-log", "--port", str(port)]
        server = start([*command, *words], port, log=log)
        try:
            yield Running(port, server.pid, log)
        finally:
            server.terminate()
            code = server.wait()
        if code:
            sys.exit(f"the server ended with {code}")


_PROBE = '''
import http.client, json, select, sys, time
seconds, failed = [], 0
while not select.select([sys.stdin], [], [], 0.05)[0]:
    for path in ("/livez", "/readyz"):
        began, connection = time.perf_counter(), http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=5)
        try:
            connection.request("GET", path)
            failed += connection.getresponse().status != 200
        except (OSError, http.client.HTTPException):
            failed += 1
        seconds.append(time.perf_counter() - began)
        connection.close()
print(json.dumps([seconds, failed]))
'''


class Probe:
    "Asks for /livez and /readyz again and again, as an orchestrator does, over connections of its own."
    def __init__(self, port: int):
        self.port, self.seconds, self.failed = port, [0.0], 0

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        "Ask during the block, from a process of its own: this one may be busy."
        child = subprocess.Popen([sys.executable, "-c", _PROBE, str(self.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            yield
        finally:
            self.seconds, self.failed = json.loads(child.communicate("stop\n")[0])


def percentile(seconds: list[float], share: float = 0.99) -> float:
    "Return a percentile in milliseconds."
    return 1000 * sorted(seconds)[int(share * len(seconds))]


def raw_request(method: str, path: str, body: bytes = b"", kind: str = "image/jpeg", more: str = "") -> bytes:
    "Return the bytes of a request."
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


async def read_answer(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    "Read an answer and return its status and its content."
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    found = re.search(rb"content-length: *(\d+)", head)
    return head.split()[1].decode(), await reader.readexactly(int(found[1])) if found else b""
