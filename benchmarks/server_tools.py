"""What the scripts that try a server's patience share: a server with a small network, and what it uses, counts and answers meanwhile."""
import asyncio
import contextlib
import http.client
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
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
        server = start([*command, *words], port, ready="/readyz", log=log)
        try:
            yield Running(port, server.pid, log)
        finally:
            server.terminate()
            code = server.wait()
        if code:
            sys.exit(f"the server ended with {code}")


@dataclass
class Probe:
    "Asks for /livez and /readyz again and again, as an orchestrator does, over connections of its own."
    port: int
    every: float = 0.05  # seconds
    seconds: list[float] = field(default_factory=list)  # of each answer
    failed: int = 0

    async def _ask(self, path: str) -> None:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(5):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                good = (await reader.read()).startswith(b"HTTP/1.1 200")
                writer.close()
        except (OSError, TimeoutError):
            good = False
        self.failed += not good
        self.seconds.append(time.perf_counter() - began)

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        "Ask during the block."
        async def _ask_on() -> None:
            while True:
                for path in ("/livez", "/readyz"):
                    await self._ask(path)
                await asyncio.sleep(self.every)
        task = asyncio.create_task(_ask_on())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def p99(self) -> float:
        "Return the 99th percentile in milliseconds."
        return percentile(self.seconds)


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
