"""Does the page that `ic export --to web` makes answer in a browser as the classifier does in Python, how large is it, how soon is the first answer?

    python benchmarks/web.py

Needs $IMAGE_CLASSIFIER_DATA, a folder with cifar10-jpeg.tar.gz and hymenoptera.tar.gz, the extras export and pretrained, playwright and Chromium. A
small network learns 3,000 images of CIFAR-10, and efficientnet_lite0 at 224 px gets a new last layer for photos of ants and bees, of about 400 x 500 px.
Chromium then classifies 500 test images of CIFAR-10 and all photos, from their files. A table compares the pixels of formats that browsers may read differently. The
last line is one JSON object; the exit code is 1 where a bar is missed."""
import base64
import functools
import hashlib
import json
import os
import shutil
import statistics
import sys
import tarfile
import tempfile
import threading
import time
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from checkpoints import machine, skipped
from PIL import Image, ImageCms

from image_classifier.config import compose
from image_classifier.core import ImageClassifierError
from image_classifier.data import DecodeError, Preprocess
from image_classifier.inference import Classifier, read_pixels
from image_classifier.runs import train

SAME = 0.995  # share of images with the same most probable class
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CASES = {"cifar10": ["model=speednet", "hyperparameters=speed", "epochs=6", "check_near_duplicates=false"],
         "hymenoptera_data": ["model=efficientnet_lite0", "model.weights=DEFAULT", "data.size=224", "finetune=probe", "allow=[corrupt,leaks]"]}
ASK = """async names => {
  const backend = await import('./backend.js'), found = [];
  for (const name of names) {
    const file = await (await fetch(`../images/${name}`)).blob(), one = {};
    try {
      const pixels = await backend.readPixels(file);
      one.pixels = names.length < 30 ? btoa(Array.from(pixels, byte => String.fromCharCode(byte)).join('')) : null;
      one.sha = [...new Uint8Array(await crypto.subtle.digest('SHA-256', pixels))].map(byte => byte.toString(16).padStart(2, '0')).join('');
      if (names.length >= 30) one.answer = await backend.predict({file}, new AbortController().signal);
    } catch (problem) { one.error = `${problem.detail ?? problem.message}`; }
    found.push(one);
  }
  return found;
}"""


class Host(ThreadingHTTPServer):
    "A static host of a folder, without headers of its own."
    daemon_threads = True

    def handle_error(self, request, client_address):
        "A browser that goes away is no error."


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        "Keep quiet."


def write_formats(folder: Path) -> list[str]:
    "Write one drawn photo in formats that browsers may read differently, and return the names."
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:420, 0:560]
    photo = np.stack([127 + 90 * np.sin(x / 23) + 30 * np.cos(y / 9), 127 + 100 * np.sin((x + y) / 41), (x * y / 919) % 256], 2)
    photo = Image.fromarray(np.clip(photo + rng.normal(0, 8, photo.shape), 0, 255).astype(np.uint8))
    clear = photo.copy()
    clear.putalpha(Image.fromarray(((x + y) % 256).astype(np.uint8)))
    turned, profile = Image.Exif(), ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    turned[274] = 6
    deep = Image.fromarray((np.asarray(photo.convert("L")).astype(np.uint16) * 257 + rng.integers(0, 200, (420, 560))).clip(0, 65535).astype(np.uint16))
    inks = Image.fromarray(rng.integers(0, 256, (420, 560, 4), np.uint8), "CMYK")
    kinds = {
        "jpeg 4:2:0.jpg": (photo, dict(quality=85)), "jpeg 4:4:4.jpg": (photo, dict(quality=95, subsampling=0)), "jpeg 4:2:2.jpg": (photo, dict(quality=90, subsampling=1)),
        "jpeg progressive.jpg": (photo, dict(quality=80, progressive=True)), "jpeg gray.jpg": (photo.convert("L"), dict(quality=90)),
        "jpeg turned.jpg": (photo, dict(quality=90, exif=turned)), "jpeg with a profile.jpg": (photo, dict(quality=90, icc_profile=profile.tobytes())),
        "jpeg CMYK.jpg": (inks, dict(quality=95)), "png.png": (photo, {}), "png alpha.png": (clear, {}), "png 16 bit gray.png": (deep, {}),
        "png palette.png": (photo.quantize(64), {}), "webp lossy.webp": (photo, dict(quality=80)), "webp lossless.webp": (photo, dict(lossless=True)),
        "webp turned.webp": (photo, dict(lossless=True, exif=turned)), "webp alpha.webp": (clear, dict(lossless=True, exact=True)), "bmp.bmp": (photo, {})}
    for name, (image, options) in kinds.items():
        image.save(folder / name, **options)
    return list(kinds)


def differences(browser, host: str, shared: Path) -> list[str]:
    "Return a line for each format: how the browser's pixels differ from ours, not resized."
    about, names = json.loads((shared / "cifar10" / "web.json").read_text()), write_formats(shared / "images")
    preprocess = replace(Preprocess.from_dict(about["preprocess"]), size=420)
    shutil.copytree(shared / "cifar10", shared / "formats")
    (shared / "formats" / "web.json").write_text(json.dumps(about | {"preprocess": preprocess.as_dict()}))
    page, lines, files = browser.new_page(), [], [shared / "images" / one for one in names]
    page.goto(f"{host}/formats/")
    found = page.evaluate(ASK, names)
    for one, file in zip(found, files):
        try:
            ours = read_pixels(preprocess, file)
        except DecodeError as problem:
            lines.append(f"{file.name}: refused in Python ({problem.what}), in the browser: {one.get('error')}")
            continue
        if "pixels" not in one:
            lines.append(f"{file.name}: refused in the browser: {one['error']}")
            continue
        theirs = np.frombuffer(base64.b64decode(one["pixels"]), np.uint8).reshape(ours.shape)
        change = abs(theirs.astype(int) - ours)
        lines.append(f"{file.name}: largest difference {change.max()}, in {100 * (change > 0).mean():.2f} % of the values")
    return lines


def wanted(archive: tarfile.TarFile) -> list:
    "Return the members to unpack: of CIFAR-10, 300 training and 50 test images of each class."
    counts, found = {}, []
    for one in archive:
        parts = Path(one.name).parts
        kind = parts[:-1]
        counts[kind] = counts.get(kind, 0) + 1
        if parts[0] != "cifar10" or counts[kind] <= (300 if "train" in parts else 50):
            found.append(one)
    return found


def first_answer(browser, url: str, image: Path) -> list[float]:
    "Return the seconds from opening the page to an answer: on the first visit, and on the next."
    context, seconds = browser.new_context(), []
    for _ in range(2):
        page, start = context.new_page(), time.perf_counter()
        page.goto(url)
        page.set_input_files("#files", image)
        page.locator("#answer:visible").wait_for(timeout=60_000)
        seconds.append(time.perf_counter() - start)
        page.close()
    context.close()
    return seconds


def measure(name: str, home: Path, data: Path, browser, host: str, shared: Path) -> dict:
    "Train, export, ask the page in the browser, and return the figures."
    config = compose([f"data={data / name}", f"data.cache_dir={home}/cache", "device=cpu", *CASES[name]])
    classifier = Classifier.load(train(config, home / name).path / "classifier")
    form = classifier.export(None, "web")[-1]
    shutil.copytree(form.folder, shared / name)
    files = sorted(file for file in (data / name).rglob("*.jpg") if name != "cifar10" or "test" in file.parts)
    for place, file in enumerate(files):
        shutil.copyfile(file, shared / "images" / f"{name}{place}")
    page = browser.new_page()
    page.goto(f"{host}/{name}/")
    found = page.evaluate(ASK, [f"{name}{place}" for place in range(len(files))])
    expected = classifier.predict(files)
    theirs = [one["answer"] for one in found]
    same = np.mean([one["predicted_class"] == two.predicted_class for one, two in zip(theirs, expected)])
    change = [max(abs(row["probability"] - two.all_probabilities[row["class"]]) for row in one["all_probabilities"]) for one, two in zip(theirs, expected)]
    marks = np.mean([one.get("out_of_distribution") == two.out_of_distribution for one, two in zip(theirs, expected)])
    pixels = np.mean([one["sha"] == hashlib.sha256(read_pixels(classifier.preprocess, file).tobytes()).hexdigest() for one, file in zip(found, files)])
    page.close()
    return {"images": len(files), "same_class": float(same), "same_pixels": float(pixels), "same_mark": float(marks), "largest_change": float(max(change)),
            "bytes": form.size, "milliseconds": statistics.median(one["milliseconds"] for one in theirs),
            "first_answer": first_answer(browser, f"{host}/{name}/", files[0])}


def main() -> int:
    folder = os.environ.get("IMAGE_CLASSIFIER_DATA")
    if not folder or not all(Path(folder, name).is_file() for name in ("cifar10-jpeg.tar.gz", "hymenoptera.tar.gz")):
        skipped("IMAGE_CLASSIFIER_DATA names no folder with cifar10-jpeg.tar.gz and hymenoptera.tar.gz")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        skipped("playwright is not installed")
    if not CHROMIUM:
        skipped("Chromium is not installed")
    with tempfile.TemporaryDirectory() as place, sync_playwright() as play:
        home = Path(place)
        for name in ("cifar10-jpeg.tar.gz", "hymenoptera.tar.gz"):
            with tarfile.open(Path(folder, name)) as archive:
                archive.extractall(home / "data", wanted(archive), filter="data")
        shared = home / "shared"
        (shared / "images").mkdir(parents=True)
        server = Host(("127.0.0.1", 0), functools.partial(Quiet, directory=shared))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser, found = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]), {}
        for name in CASES:
            try:
                one = measure(name, home, home / "data", browser, f"http://127.0.0.1:{server.server_address[1]}", shared)
            except ImageClassifierError as problem:
                skipped(str(problem))
            found[name] = one
            print(f"\n{name}: {one['images']} images; same class {100 * one['same_class']:.1f} %, same pixels {100 * one['same_pixels']:.1f} %, same mark "
                  f"{100 * one['same_mark']:.1f} %, largest change of a probability {one['largest_change']:.1e}\nfolder {one['bytes'] / 1e6:.1f} MB, "
                  f"{one['milliseconds']:.0f} ms an image, first answer after {one['first_answer'][0]:.1f} s, on the next visit {one['first_answer'][1]:.1f} s", flush=True)
        formats = differences(browser, f"http://127.0.0.1:{server.server_address[1]}", shared)
        print("", *formats, sep="\n")
        version = browser.version
        browser.close()
    good = all(one["same_class"] >= SAME for one in found.values())
    print(json.dumps({"machine": machine(), "chromium": version, "cases": found, "formats": formats, "good": good}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
