"""How many requests a second does `ic serve` answer on one core, next to a plain FastAPI and torch application with the same model?

    python benchmarks/serving.py [--seconds 4] [--model simple_cnn --size 32] [--int8] [--litserve] [--workers]

The server is pinned to the first core, the client to the second. Requests are JPEG files, as a form and as a raw body, from 1, 8 and 64 connections that
stay open. The plain application does what tutorials do: Pillow, torchvision's transforms, a forward pass, softmax, a dictionary. The limit is a loop on
the server's core that decodes the same files and runs ONNX Runtime on them one by one, without HTTP. Weights are random: they do not change the speed.
Photos of 224 px: --model efficientnet_lite0 --size 224; with --int8 our server and the limit compute in 8-bit integers, the plain application as
before. Needs the extras export and serve, and two cores. The last line is one JSON object; the exit code is 1 where a bar is missed."""
import argparse
import asyncio
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

BARS = {"form": 2.2, "raw": 3.0, "limit form": 0.42, "limit raw": 0.52}  # at 8 and 64 connections
TWO_WORKERS = 1.7  # times one, with --workers
CONNECTIONS = (1, 8, 64)


def photos(side: int, count: int = 64) -> list[bytes]:
    "Return JPEG files of smooth noise, as large as photos of that kind are: 32 px as they are, larger ones 500 x 400."
    import numpy as np
    from PIL import Image
    draws, size = np.random.default_rng(0), (side, side) if side <= 64 else (500, 400)
    files = []
    for _ in range(count):
        small = Image.fromarray(draws.integers(0, 256, (8, 8, 3), np.uint8))
        small.resize(size, Image.Resampling.BICUBIC).save(file := io.BytesIO(), "jpeg", quality=85)
        files.append(file.getvalue())
    return files


def make_artifact(folder: str, model: str, side: int) -> str:
    "Save and export a classifier with random weights."
    import warnings

    from image_classifier.data import Preprocess
    from image_classifier.inference import Classifier, export_artifact
    from image_classifier.models import Architecture, build_model
    network = build_model(Architecture(model, channels=3, classes=10, size=side), seed=0)
    classifier = Classifier(network, Preprocess(side, 3, "crop", (0.5,) * 3, (0.25,) * 3), [f"class {i}" for i in range(10)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export_artifact(classifier.save(f"{folder}/classifier"), "onnx", None)
    return f"{folder}/classifier"


def make_int8(artifact: str, files: list[bytes]) -> str:
    "Write an artifact's model in 8-bit integers, and return the file."
    import numpy as np

    from image_classifier.inference import OnnxModel
    from image_classifier.inference.int8 import quantize, Recipe
    from image_classifier.inference.prediction import read_pixels
    pixels = np.stack([read_pixels(OnnxModel(artifact).preprocess, data) for data in files])
    return str(quantize(Path(artifact, "model.onnx"), Path(artifact).parent / "int8.onnx", Recipe(), pixels))


# The servers, each in a process of its own

PLAIN = '''
import io, os, sys
import torch, uvicorn
from fastapi import FastAPI, File, UploadFile
from PIL import Image
from torchvision import transforms
from image_classifier.inference import Classifier
torch.set_num_threads(1)
loaded = Classifier.load(sys.argv[1])
side, classes, model = loaded.preprocess.size, loaded.classes, loaded.model.eval()
transform = transforms.Compose([transforms.Resize((side, side)), transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.25,) * 3)])
app = FastAPI()

@app.get("/readyz")
async def readyz():
    return "ok"

@app.post("/predict")
async def predict(file: UploadFile = File(...)):
    image = Image.open(io.BytesIO(await file.read())).convert("RGB")
    with torch.no_grad():
        probabilities = torch.softmax(model(transform(image).unsqueeze(0)), 1)[0]
    ranked = sorted(({"class": name, "probability": p.item()} for name, p in zip(classes, probabilities)), key=lambda one: -one["probability"])
    return {"predicted_class": ranked[0]["class"], "confidence": ranked[0]["probability"], "all_probabilities": ranked}

uvicorn.run(app, port=int(sys.argv[2]), access_log=False)
'''

LITSERVE = '''
import io, sys
import litserve
from image_classifier.inference import OnnxModel
class Api(litserve.LitAPI):
    def setup(self, device):
        self.model = OnnxModel(sys.argv[1], threads=1)
    def decode_request(self, request):
        return request["file"].file.read()
    def predict(self, data):
        return self.model.predict(data)
    def encode_response(self, found):
        return {"predicted_class": found.predicted_class, "confidence": found.confidence, "all_probabilities": found.all_probabilities}
if __name__ == "__main__":
    litserve.LitServer(Api(api_path="/predict"), accelerator="cpu", workers_per_device=1).run(port=int(sys.argv[2]), generate_client_file=False, log_level="error")
'''


def start(command: list[str], port: int, cores: str = "0", ready: str = "/readyz", log: str | Path = os.devnull) -> subprocess.Popen:
    "Start a server on these cores and wait until it answers."
    import http.client
    with open(log, "w") as errors:
        server = subprocess.Popen(["taskset", "-c", cores, *command], env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=errors)
    for _ in range(600):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", ready)
            if connection.getresponse().status == 200:
                return server
        except OSError:
            pass
        time.sleep(0.1)
    server.kill()
    sys.exit(f"no answer from {' '.join(command[:4])}")


# The client

def use_second_core() -> None:
    "Leave the first core to the server."
    if len(os.sched_getaffinity(0)) < 2:
        print("two cores are needed")
        sys.exit(77)
    os.sched_setaffinity(0, {1})


def request(data: bytes, form: bool) -> bytes:
    "Return the bytes of a request with an image."
    kind = "image/jpeg"
    if form:
        head = b'--x1\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
        data, kind = head + data + b"\r\n--x1--\r\n", "multipart/form-data; boundary=x1"
    return f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


async def connection(port: int, requests: list[bytes], end: float, latencies: list[float]) -> None:
    "Send one request after the other, and note how long each answer takes."
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number = 0
    while (began := time.perf_counter()) < end:
        writer.write(requests[number % len(requests)])
        head = await reader.readuntil(b"\r\n\r\n")
        lower = head.lower()
        start = lower.index(b"content-length:") + 15
        await reader.readexactly(int(lower[start:lower.index(b"\r", start)]))
        if not head.startswith(b"HTTP/1.1 200"):
            sys.exit(f"answer {head[:40]!r}")
        latencies.append(time.perf_counter() - began)
        number += 1
    writer.close()


def load(port: int, files: list[bytes], form: bool, connections: int, seconds: float) -> tuple[float, float]:
    "Return answers a second, and the 99th percentile of the latency in milliseconds."
    requests = [request(data, form) for data in files]
    async def _run() -> list[float]:
        latencies: list[float] = []
        end = time.perf_counter() + seconds
        await asyncio.gather(*(connection(port, requests[i:] + requests[:i], end, latencies) for i in range(connections)))
        return latencies
    asyncio.run(_run())  # warms up
    began = time.perf_counter()
    latencies = sorted(asyncio.run(_run()))
    return len(latencies) / (time.perf_counter() - began), 1000 * latencies[int(0.99 * len(latencies))]


def limit(artifact: str, files: list[bytes], seconds: float) -> float:
    "Return how many images a second a bare loop decodes and classifies."
    from image_classifier.inference import OnnxModel
    from image_classifier.inference.prediction import read_pixels
    model, count = OnnxModel(artifact, threads=1), 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        model.outputs(read_pixels(model.preprocess, files[count % len(files)])[None])
        count += 1
    return count / seconds


def workers(command: list[str], files: list[bytes], words: argparse.Namespace, one: float) -> float:
    "Return how many times the answers of one process two of them give."
    os.sched_setaffinity(0, {0, 1})
    server = start([*command, "8304", "--workers", "2"], 8304, "0,1")
    try:
        time.sleep(2)  # until the second one is ready as well
        rates = [load(8304, files, False, 64, words.seconds)[0] for _ in range(words.rounds)]
    finally:
        server.terminate()
        server.wait()
    return median(rates) / one


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="simple_cnn")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--int8", action="store_true", help="Let our server compute in 8-bit integers.")
    parser.add_argument("--litserve", action="store_true", help="Also compare LitServe on the same ONNX file, if it is installed.")
    parser.add_argument("--workers", action="store_true", help="Also compare two processes on both cores, which the client uses as well.")
    parser.add_argument("--limit", metavar="ARTIFACT", help=argparse.SUPPRESS)
    words = parser.parse_args()
    files = photos(words.size)
    if words.limit:
        print(limit(words.limit, files, words.seconds))
        return
    use_second_core()
    results: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        artifact = make_artifact(folder, words.model, words.size)
        for name, code in (("plain", PLAIN), ("litserve", LITSERVE)):
            Path(folder, f"{name}_app.py").write_text(code)
        served = make_int8(artifact, files) if words.int8 else artifact
        ours = [sys.executable, "-m", "image_classifier.cli", "serve", served, "--no-access-log", "--port"]
        plain, lit = ([sys.executable, f"{folder}/{name}_app.py", artifact] for name in ("plain", "litserve"))
        servers = {"ours": start([*ours, "8301"], 8301), "plain": start([*plain, "8302"], 8302)}
        ports = {"ours": 8301, "plain": 8302}
        if words.litserve:
            servers["litserve"], ports["litserve"] = start([*lit, "8303"], 8303, ready="/health"), 8303
        try:
            cases = [(name, form, count) for form in (True, False) for count in CONNECTIONS for name in servers if form or name == "ours"]
            found: dict = {case: [] for case in cases}
            bare = []
            for _ in range(words.rounds):
                for name, form, count in cases:
                    found[name, form, count].append(load(ports[name], files, form, count, words.seconds))
                command = ["taskset", "-c", "0", sys.executable, __file__, "--limit", served, "--seconds", str(words.seconds), "--size", str(words.size)]
                shown = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}).stdout
                bare.append(float(shown))
        finally:
            for server in servers.values():
                server.terminate()
                server.wait()
        if words.workers:
            results["two workers"] = workers(ours, files, words, median(one for one, _ in found["ours", False, 64]))
    rate = {case: median(one for one, _ in values) for case, values in found.items()}
    tail = {case: median(one for _, one in values) for case, values in found.items()}
    print(f"{words.model} at {words.size} px{' in 8-bit integers' if words.int8 else ''}; limit {median(bare):.0f} images a second on one core\n")
    print(f"{'':10}{'body':6}{'connections':>12}{'answers/s':>11}{'p99 ms':>9}{'to plain':>10}{'of limit':>10}")
    good = True
    for name, form, count in cases:
        ratio, share = rate[name, form, count] / rate["plain", True, count], rate[name, form, count] / median(bare)
        print(f"{name:10}{'form' if form else 'raw':6}{count:12}{rate[name, form, count]:11.0f}{tail[name, form, count]:9.1f}{ratio:10.2f}{share:10.2f}")
        results[f"{name} {'form' if form else 'raw'} {count}"] = {"rate": rate[name, form, count], "p99_ms": tail[name, form, count], "ratio": ratio, "share": share}
        if name == "ours" and count > 1:
            kind = "form" if form else "raw"
            good &= ratio >= BARS[kind] and share >= BARS[f"limit {kind}"] and tail[name, form, count] <= tail["plain", True, count]
    if words.workers:
        print(f"two workers on both cores: {results['two workers']:.2f} times one")
        good &= results["two workers"] >= TWO_WORKERS
    from checkpoints import machine
    print(json.dumps({"benchmark": "serving", "good": bool(good), "model": words.model, "int8": words.int8, "limit": median(bare), "results": results, "machine": machine()}))
    sys.exit(not good)


if __name__ == "__main__":
    main()
