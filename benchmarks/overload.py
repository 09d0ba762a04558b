"""What does `ic serve` do when twice as many requests arrive as it can answer?

    python benchmarks/overload.py [--requests 10000]

An open-loop client: requests are sent when their time has come, whether or not earlier ones were answered, as the requests of strangers are (a client that
waits for its answers slows down together with the server and hides the overload). The server runs on the first core, the client on the second. The capacity is
measured first, with 64 connections that wait. Then requests come at twice that rate, over up to 512 connections; one that finds none free waits, and its
latency counts from the time it was due. Needs the extras export and serve, and two cores. The last line is one JSON object; the exit code is 1 where a bar is
missed: every request is answered, with 200 or with 503 and Retry-After; at least 0.9 of the capacity is answered with 200; the memory grows by at most 50 MB."""
import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from checkpoints import machine
from serving import load, make_artifact, photos, request, start, use_second_core

GOODPUT, MEGABYTES = 0.9, 50
PORT, CONNECTIONS = 8305, 512


def resident(process: int) -> float:
    "Return the memory of a process in MB."
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1000


async def overload(requests: list[bytes], rate: float, count: int) -> tuple[Counter, list[float], float]:
    "Send requests at a rate; return the statuses, the latencies of 200 in seconds, and how long it took."
    statuses: Counter = Counter()
    latencies: list[float] = []
    free: asyncio.Queue = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", PORT))

    async def one(number: int, due: float) -> None:
        reader, writer = await free.get()
        try:
            writer.write(requests[number % len(requests)])
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.index(b"content-length:") + 15
            await reader.readexactly(int(head[length:head.index(b"\r", length)]))
            status = head.split()[1].decode()
            statuses[status if status != "503" or b"retry-after" in head else "503 without retry-after"] += 1
            if status == "200":
                latencies.append(time.perf_counter() - due)
            free.put_nowait((reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            statuses["lost"] += 1
            free.put_nowait(await asyncio.open_connection("127.0.0.1", PORT))

    began, tasks = time.perf_counter(), []
    for number in range(count):
        due = began + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(one(number, due)))
    sent = time.perf_counter() - began
    await asyncio.gather(*tasks)
    return statuses, sorted(latencies), max(sent, time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=10_000)
    words = parser.parse_args()
    use_second_core()
    files = photos(32)
    with tempfile.TemporaryDirectory() as folder:
        artifact = make_artifact(folder, "simple_cnn", 32)
        server = start([sys.executable, "-m", "image_classifier.cli", "serve", artifact, "--no-access-log", "--port", str(PORT)], PORT)
        try:
            capacity, busy = load(PORT, files, False, 64, 3)
            _, idle = load(PORT, files, False, 1, 2)
            memory = resident(server.pid)
            statuses, latencies, seconds = asyncio.run(overload([request(data, False) for data in files], 2 * capacity, words.requests))
            grown = resident(server.pid) - memory
            _, after = load(PORT, files, False, 1, 2)
        finally:
            server.terminate()
            ended = server.wait()
    goodput, tail = statuses["200"] / seconds / capacity, 1000 * latencies[int(0.99 * len(latencies))]
    print(f"capacity {capacity:.0f} a second; {words.requests:,} requests at twice that in {seconds:.1f} s: {dict(statuses)}")
    print(f"answered with 200: {goodput:.2f} of the capacity, 99 % within {tail:.0f} ms; memory +{grown:.0f} MB; alone, 99 % within {idle:.1f} ms "
          f"before and {after:.1f} ms afterwards; ended with {ended}")
    good = set(statuses) <= {"200", "503"} and sum(statuses.values()) == words.requests and goodput >= GOODPUT and grown <= MEGABYTES and ended == 0
    print(json.dumps({"benchmark": "overload", "good": good, "capacity": capacity, "statuses": dict(statuses), "goodput": goodput, "p99_ms": tail,
                      "busy_p99_ms": busy, "idle_p99_ms": [idle, after], "memory_mb": grown, "machine": machine()}))
    sys.exit(not good)


if __name__ == "__main__":
    main()
