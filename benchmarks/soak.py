"""Does `ic serve` need more memory the longer it runs?

    python benchmarks/soak.py [--requests 100000]    # as fast as they are answered, over 16 connections
    python benchmarks/soak.py --minutes 60           # at 0.7 of the rate that it can answer

Requests of all kinds in a fixed order of chance: images as bodies and forms, several at once, a few heat maps, and one in seven that must be refused: texts, torn
files, wrong options, fields, paths and methods. Memory and descriptors are read a hundred times. Needs the extras export and serve, and two cores. The last line is
one JSON object; the exit code is 1 where a bar is missed: every answer has the status that it should have; of N requests, the memory during the last tenth is
within 5 % of that during the second; in minutes, it grows by at most 1 MB in ten; without connections, as many descriptors are open as before."""
import argparse
import asyncio
import itertools
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from checkpoints import machine
from server_tools import raw_request, read_answer, Running, running_server
from serving import photos, request, use_second_core

PORT, CONNECTIONS = 8307, 16
MOST_CHANGE, MEGABYTES_IN_TEN_MINUTES, LOAD = 0.05, 1.0, 0.7


def form(files: list[bytes], name: str) -> tuple[bytes, str]:
    "Return the body of a form with these files, and its content type."
    head = f'--x1\r\nContent-Disposition: form-data; name="{name}"; filename="a.jpg"\r\n\r\n'.encode()
    return b"".join(head + data + b"\r\n" for data in files) + b"--x1--\r\n", "multipart/form-data; boundary=x1"


def mixture(files: list[bytes]) -> list[tuple[str, bytes]]:
    "Return a thousand requests, each with the status that is due."
    bad = [("415", raw_request("POST", "/predict", b"hello")), ("422", raw_request("POST", "/predict", files[0][:300])),
           ("422", raw_request("POST", "/predict?top_k=0", files[0])), ("422", raw_request("POST", "/predict", *form(files[:1], "photo"))),
           ("415", raw_request("POST", "/predict", b"[" * 1000, "application/json")), ("400", raw_request("POST", "/predict", b"x", "multipart/form-data")),
           ("422", raw_request("POST", "/predict")), ("404", raw_request("GET", "/admin")), ("405", raw_request("GET", "/predict")),
           ("413", raw_request("POST", "/predict_batch", *form(files[:1] * 33, "files")))]
    draws = random.Random(0)
    def one(number: int) -> tuple[str, bytes]:
        chosen = draws.choices(files, k=4)
        if number % 7 == 0:
            return bad[number // 7 % len(bad)]
        if number % 500 == 1:
            return "200", raw_request("POST", "/predict?explain=true", chosen[0])
        if number % 20 == 1:
            return "200", raw_request("POST", "/predict_batch", *form(chosen, "files"))
        if number % 50 == 2:
            return "200", raw_request("GET", draws.choice(["/health", "/classes", "/metrics", "/", "/openapi.json"]))
        return "200", request(chosen[0], form=number % 4 == 3)
    made = [one(number) for number in range(1000)]
    draws.shuffle(made)
    return made


@dataclass
class Soak:
    "Sends requests, and looks at the server meanwhile."
    server: Running
    requests: list[tuple[str, bytes]]
    wrong: Counter = field(default_factory=Counter)
    sent: int = 0

    async def _send_on(self, numbers: itertools.count, began: float, rate: float, until: float, most: int) -> None:
        "Send one request after the other over a connection, each when it is due."
        reader = writer = None
        for number in numbers:
            due = began + number / rate
            if number >= most or due > until:
                break
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            expected, data = self.requests[number % len(self.requests)]
            try:
                if writer is None or writer.is_closing() or reader.at_eof():
                    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
                writer.write(data)
                status, _ = await read_answer(reader)
            except (OSError, asyncio.IncompleteReadError):
                status = "lost"
            if status in ("413", "415", "422", "lost"):  # after which the server may close
                writer.close()
                writer = None
            self.sent += 1
            if status != expected:
                self.wrong[f"{status} instead of {expected}"] += 1
        if writer:
            writer.close()

    async def run(self, most: int, seconds: float = float("inf"), rate: float = float("inf"), looks: int = 100) -> list[tuple[float, float, int]]:
        "Send so many requests, or for so long, and return seconds, megabytes and descriptors of each look."
        numbers, began, found, self.sent = itertools.count(), time.perf_counter(), [], 0
        tasks = [asyncio.create_task(self._send_on(numbers, began, rate, began + seconds, most)) for _ in range(CONNECTIONS)]
        ended = asyncio.gather(*tasks)
        while not ended.done():
            passed = time.perf_counter() - began
            if max(self.sent / most, passed / seconds) * looks >= len(found) + 1:
                found.append((passed, self.server.megabytes(), self.server.descriptors()))
            await asyncio.sleep(0.02)
        await ended
        return found


def slope(looks: list[tuple[float, float, int]]) -> float:
    "Return by how many megabytes the memory grows in ten minutes, by least squares after the first tenth."
    import numpy as np
    seconds, memory = np.array([look[:2] for look in looks[len(looks) // 10:]]).T
    return float(600 * np.polyfit(seconds, memory, 1)[0])


def change(looks: list[tuple[float, float, int]]) -> float:
    "Return the memory during the last tenth to that during the second, minus one."
    tenth = len(looks) // 10
    def mean(part: list) -> float:
        return sum(look[1] for look in part) / len(part)
    return mean(looks[-tenth:]) / mean(looks[tenth:2 * tenth]) - 1


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=0)
    words = parser.parse_args()
    use_second_core()
    with running_server(PORT) as server:
        soak = Soak(server, mixture(photos(32)))
        began = time.perf_counter()
        asyncio.run(soak.run(2000))
        capacity = 2000 / (time.perf_counter() - began)
        time.sleep(1)
        open_before = server.descriptors()
        began = time.perf_counter()
        if words.minutes:
            looks = asyncio.run(soak.run(10**12, 60 * words.minutes, LOAD * capacity))
        else:
            looks = asyncio.run(soak.run(words.requests))
        seconds = time.perf_counter() - began
        time.sleep(1)
        open_after, errors, inside = server.descriptors(), server.errors(), server.inside()
    grown, slant = change(looks), slope(looks)
    descriptors = [look[2] for look in looks]
    flat = slant <= MEGABYTES_IN_TEN_MINUTES if words.minutes else abs(grown) <= MOST_CHANGE
    good = flat and not soak.wrong and not errors and open_after == open_before and not inside
    print(f"{soak.sent:,} requests in {seconds:.0f} s ({soak.sent / seconds:.0f} a second; {capacity:.0f} at first); memory {looks[0][1]:.0f} MB at first, {looks[-1][1]:.0f} at last, "
          f"{100 * grown:+.1f} % from the second tenth to the last, {slant:+.1f} MB in ten minutes")
    print(f"descriptors {open_before} before and {open_after} after, {min(descriptors)} to {max(descriptors)} meanwhile; wrong answers {dict(soak.wrong)}; errors {errors[:3]}")
    print(json.dumps({"benchmark": "soak", "good": bool(good), "requests": soak.sent, "seconds": seconds, "change": grown, "mb_in_ten_minutes": slant,
                      "memory_mb": [look[1] for look in looks[::10]], "descriptors": [open_before, open_after, min(descriptors), max(descriptors)],
                      "wrong": dict(soak.wrong), "errors": len(errors), "machine": machine()}))
    sys.exit(not good)


if __name__ == "__main__":
    main()
