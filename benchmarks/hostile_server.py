"""Do clients that misbehave harm the others, or `ic serve` itself?

    python benchmarks/hostile_server.py [--gone 500] [--slow 200] [--mutations 500] [--overload 10000]

Four attacks on one server, while /livez and /readyz are asked all the time:
  gone      clients that hang up in the middle of their request, or before they read the answer
  slow      clients that send one byte a second, in their headers or in their body
  raw       20 paths x 8 methods x so many mutations of a request: bytes exchanged, removed, doubled; false lengths and chunks, endless headers, JSON
            100,000 deep, forms of 10,000 parts
  overload  twice as many requests as it can answer
During the first two, some well-behaved clients send an image every 20 ms. The server runs on the first core, the clients on the second. Needs the extras export and
serve, and two cores. The last line is one JSON object; the exit code is 1 where a bar is missed: nothing is answered with 500 or more (503 in the overload); others
wait at most twice as long (99th percentile); sockets are free again within 30 s, and nothing is left inside; memory is flat in the second half; each probe is answered, 99 % within 50 ms."""
import argparse
import asyncio
import contextlib
import json
import random
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from checkpoints import machine
from overload import overload, PORT
from server_tools import percentile, Probe, raw_request, read_answer, Running, running_server
from serving import load, photos, request, use_second_core
from soak import form

SLOWER, FREE_SECONDS, PROBE_MS, MOST_CHANGE = 2.0, 30, 50, 0.05
PATHS = ("/predict", "/predict_batch", "/health", "/classes", "/livez", "/readyz", "/metrics", "/openapi.json", "/", "/docs", "/predict?top_k=1", "/predict?explain=0",
         "/predict/", "//predict", "/%70redict", "/../predict", "/predict?top_k=%00", "/nothing", "*", "http://x/predict")
METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE")


async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    "Open a connection that is reset when it is closed, from one of many addresses, so that ports do not run out."
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT, local_addr=(f"127.0.0.{random.randint(2, 200)}", 0))
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return reader, writer


@dataclass
class Neighbors:
    "Well-behaved clients: an image every 20 ms, in turn over four connections."
    requests: list[bytes]
    seconds: list[float] = field(default_factory=list)
    statuses: Counter = field(default_factory=Counter)

    async def _send_on(self, first: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        began, number = time.perf_counter(), first
        with contextlib.closing(writer):
            while True:
                due = began + 0.02 * number
                await asyncio.sleep(max(0, due - time.perf_counter()))
                writer.write(self.requests[number % len(self.requests)])
                status, _ = await read_answer(reader)
                self.statuses[status] += 1
                self.seconds.append(time.perf_counter() - due)
                number += 4

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        "Let them work during the block."
        tasks = [asyncio.create_task(self._send_on(number)) for number in range(4)]
        yield
        for task in tasks:
            task.cancel()
        failed = [one for one in await asyncio.gather(*tasks, return_exceptions=True) if not isinstance(one, asyncio.CancelledError)]
        self.statuses["lost"] += len(failed)

    async def work(self, seconds: float) -> None:
        "Let them work for a while, when nothing else happens."
        async with self.working():
            await asyncio.sleep(seconds)


async def vanish(data: bytes, number: int) -> None:
    "Hang up in the headers, in the body, or before the answer."
    _, writer = await connect()
    cut = (20, data.index(b"\r\n\r\n") + 100, len(data))[number % 3]
    writer.write(data[:cut])
    await writer.drain()
    await asyncio.sleep(random.random() / 20)
    writer.close()


async def dribble(data: bytes, number: int) -> float:
    "Send a byte a second until the server hangs up, and return how long that takes."
    reader, writer = await connect()
    start = 0 if number % 2 else data.index(b"\r\n\r\n") + 4
    writer.write(data[:start])
    await asyncio.sleep(random.random())
    began = time.perf_counter()
    for position in range(start, len(data)):
        try:
            writer.write(data[position:position + 1])
            async with asyncio.timeout(1):
                while await reader.read(4096):
                    pass
            break
        except TimeoutError:
            pass
        except OSError:
            break
    seconds = time.perf_counter() - began
    writer.close()
    return seconds


# What is sent to a raw socket

def _exchange(data: bytes, draws: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draws.randint(1, 8)):
        changed[draws.randrange(min(len(data), 300))] = draws.randrange(256)
    return bytes(changed)


def _remove(data: bytes, draws: random.Random) -> bytes:
    start = draws.randrange(min(len(data), 300))
    return data[:start] + data[start + draws.randint(1, 40):]


def _double(data: bytes, draws: random.Random) -> bytes:
    start = draws.randrange(min(len(data), 300))
    return data[:start] + data[start:start + draws.randint(1, 100)] * draws.randint(2, 5) + data[start:]


def _insert(data: bytes, draws: random.Random) -> bytes:
    start = draws.randrange(min(len(data), 300))
    odd = [b"\r\n", b"\n", b"\0", b" ", b":", b"\xff\xfe", b"\r\n\r\n", b"%00", b"%n%s", b"\t", b"HTTP/1.1", draws.randbytes(20)]
    return data[:start] + draws.choice(odd) + data[start:]


def _header(data: bytes, draws: random.Random) -> bytes:
    "Add a header that is wrong, or contradicts the others."
    odd = [b"Content-Length: -1", b"Content-Length: 0", b"Content-Length: 99999999999999999999", b"Content-Length: 1_0", b"Transfer-Encoding: chunked",
           b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: identity", b"Expect: 100-continue", b"Expect: everything", b"Upgrade: websocket\r\nConnection: Upgrade",
           b"Connection: close", b"Content-Encoding: gzip", b"Host: a\r\nHost: b", b"X-Request-ID: \x01\x02", b"X-Request-ID: " + b"a" * 5000, b": empty", b"no colon",
           b"Authorization: Bearer " + b"k" * 5000, b"Range: bytes=0-", b"Content-Type: multipart/form-data; boundary=", b"X: " + b"a" * 20_000, b"X: \xe2\x82\xac"]
    place = data.find(b"\r\n") + 2
    return data[:place] + draws.choice(odd) + b"\r\n" + data[place:]


def _chunks(data: bytes, draws: random.Random) -> bytes:
    "Send the body in chunks, some with a wrong size."
    head, _, body = data.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
    sizes = [b"%x", b"%x", b"%X", b"0x%x", b"-%x", b"%x;name=value", b"ffffffffffffffff%x", b" %x"]
    size = draws.choice(sizes) % len(body)
    return b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"", size]) + b"\r\n" + body + draws.choice([b"\r\n0\r\n\r\n", b"\r\n", b"", b"0\r\n\r\n"])


MUTATIONS = (_exchange, _remove, _double, _insert, _header, _chunks)


def large(path: str, method: str) -> list[bytes]:
    "Return requests that are too large in one way or another."
    def send(body: bytes, kind: str) -> bytes:
        return raw_request(method, path, body, kind)
    return [raw_request(method, path, more="X: " + "a" * 200_000 + "\r\n"), raw_request(method, path, more="".join(f"X{i}: 1\r\n" for i in range(20_000))),
            send(b"[" * 100_000, "application/json"), send(b'{"a":' * 100_000, "image/png"), send(*form([b"1"] * 10_000, "files")), send(*form([b"1"] * 10_000, "file")),
            f"{method} {path}?{'a=1&' * 20_000} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), b"\r\n" * 50_000]


@dataclass
class Raw:
    "Sends mutations over connections of their own."
    statuses: Counter = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    async def send(self, data: bytes) -> None:
        "Send bytes, and read what comes back within a moment."
        reader, writer = await connect()
        answer = b""
        try:
            writer.write(data)
            async with asyncio.timeout(0.3):
                while b"\r\n\r\n" not in answer and (more := await reader.read(1 << 16)):
                    answer += more
        except (TimeoutError, OSError):
            pass
        finally:
            writer.close()
        status = answer[9:12].decode("latin-1") if answer.startswith(b"HTTP/1.") else "none"
        self.statuses[status] += 1
        if status.startswith("5") or b"HTTP/1.1 5" in answer or answer and status == "none":
            self.failures.append(f"{data[:300]!r} got {answer[:200]!r}")

    async def run(self, server: Running, mutations: int) -> list[float]:
        "Send everything over 8 connections at a time, and return the memory meanwhile."
        image, draws, memory = photos(32, 1)[0], random.Random(0), []
        targets = [(path, method) for path in PATHS for method in METHODS]
        draws.shuffle(targets)
        for path, method in targets:
            bases = [raw_request(method, path, image), raw_request(method, path, *form([image], "file")), raw_request(method, path, *form([image] * 2, "files"))]
            todo = iter([draws.choice(MUTATIONS)(draws.choice(bases), draws) for _ in range(max(0, mutations - 8))] + large(path, method)[:mutations])
            async def _work() -> None:
                for data in todo:
                    await self.send(data)
            await asyncio.gather(*(_work() for _ in range(8)))
            memory.append(server.megabytes())
        return memory


async def freed(server: Running, most: int) -> float:
    "Return after how many seconds no more than so many descriptors are open."
    began = time.perf_counter()
    while server.descriptors() > most and time.perf_counter() - began < 2 * FREE_SECONDS:
        await asyncio.sleep(0.1)
    return time.perf_counter() - began


async def attack(server: Running, words: argparse.Namespace, capacity: float) -> dict:
    "Attack in four ways and return what was measured."
    data = [request(one, False) for one in photos(32)]
    await asyncio.sleep(1)
    idle, found = server.descriptors(), {}
    probes = {name: Probe(PORT) for name in ("gone", "slow", "raw", "overload")}
    calm = Neighbors(data)  # before, between and after
    await calm.work(5)

    neighbors = Neighbors(data)
    with probes["gone"].asking():
        async with neighbors.working():
            gone = []
            for number in range(words.gone):
                gone.append(asyncio.create_task(vanish(data[number % len(data)], number)))
                await asyncio.sleep(0.02)
            await asyncio.gather(*gone)
    found["gone"] = {"freed_s": await freed(server, idle), "others_p99_ms": percentile(neighbors.seconds), "others": dict(neighbors.statuses)}

    await calm.work(5)
    neighbors = Neighbors(data)
    with probes["slow"].asking():
        async with neighbors.working():
            lasted = await asyncio.gather(*(dribble(data[one % len(data)], one) for one in range(words.slow)))
    found["slow"] = {"freed_s": max(lasted) + await freed(server, idle), "others_p99_ms": percentile(neighbors.seconds), "others": dict(neighbors.statuses)}

    await calm.work(5)
    raw = Raw()
    with probes["raw"].asking():
        memory = await raw.run(server, words.mutations)
    tenth, middle = max(1, len(memory) // 10), len(memory) // 2  # until then everything has been sent, the largest as well
    found["raw"] = {"statuses": dict(raw.statuses), "failures": raw.failures[:5], "freed_s": await freed(server, idle), "memory_mb": memory[::16],
                    "change": sum(memory[-tenth:]) / sum(memory[middle - tenth:middle]) - 1}

    with probes["overload"].asking():
        statuses, _, seconds = await overload(data, 2 * capacity, words.overload)
    found["overload"] = {"statuses": dict(statuses), "of_capacity": statuses["200"] / seconds / capacity}
    for name, probe in probes.items():
        found[name] |= {"probes": len(probe.seconds), "probes_failed": probe.failed, "probes_p99_ms": percentile(probe.seconds)}
    return found | {"calm_p99_ms": percentile(calm.seconds)}


def judge(found: dict, inside: float, errors: list[str]) -> list[str]:
    "Return the bars that were missed."
    missed = [f"errors in the log: {errors[:2]}"] if errors else []
    missed += [f"{inside} images inside"] if inside else []
    for name in ("gone", "slow", "raw", "overload"):
        one = found[name]
        missed += [f"{name}: {one['probes_failed']} probes failed"] if one["probes_failed"] else []
        missed += [f"{name}: probes {one['probes_p99_ms']:.0f} ms"] if one["probes_p99_ms"] > PROBE_MS else []
        missed += [f"{name}: free after {one['freed_s']:.0f} s"] if one.get("freed_s", 0) > FREE_SECONDS else []
    for name in ("gone", "slow"):
        ratio = found[name]["others_p99_ms"] / found["calm_p99_ms"]
        missed += [f"{name}: others wait {ratio:.1f} times as long"] if ratio > SLOWER else []
        missed += [f"{name}: others got {found[name]['others']}"] if set(found[name]["others"]) - {"200", "lost"} or found[name]["others"]["lost"] else []
    missed += [f"raw: {found['raw']['failures']}"] if found["raw"]["failures"] else []
    missed += [f"raw: memory {100 * found['raw']['change']:+.0f} %"] if abs(found["raw"]["change"]) > MOST_CHANGE else []
    return missed + ([f"overload: {found['overload']['statuses']}"] if set(found["overload"]["statuses"]) - {"200", "503"} else [])


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, count in (("gone", 500), ("slow", 200), ("mutations", 500), ("overload", 10_000)):
        parser.add_argument(f"--{name}", type=int, default=count)
    words = parser.parse_args()
    use_second_core()
    with running_server(PORT) as server:
        capacity, _ = load(PORT, photos(32), False, 64, 3)
        found = asyncio.run(attack(server, words, capacity))
        time.sleep(1)
        errors, inside = server.errors(), server.inside()
    missed = judge(found, inside, errors)
    for name, one in found.items():
        print(f"{name}: {one}")
    print("missed:", *missed or ["nothing"], sep="\n  ")
    print(json.dumps({"benchmark": "hostile_server", "good": not missed, "missed": missed, "capacity": capacity, **found, "machine": machine()}))
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
