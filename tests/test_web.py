"""The page without a server: its pixels are those of Python, its folder is complete, and in a browser it answers, refuses and looks as it should."""
import base64
import functools
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import threading
import zlib
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from literate import ROOT
from PIL import Image
from test_page import CHROMIUM, ended, files, HOSTILE, shown, until, wait_for

from image_classifier.core import ArtifactError, check_manifest, ConfigError, DataError
from image_classifier.data import DecodeError, Limits, Preprocess, RemoteFile, sniff
from image_classifier.inference import Classifier, export_artifact, export_formats, RUNTIME_VARIABLE, web_folder, write_web_folder
from image_classifier.inference.export_formats import ExportedForm
from image_classifier.metrics import OODDetector
from image_classifier.models import build_model

RULES = ["crop", "pad", "stretch"]


def noise(width, height, *more, seed=0, kind=np.uint8):
    return np.random.default_rng(seed).integers(0, np.iinfo(kind).max + 1, (height, width, *more)).astype(kind)


def encoded(image, format="png", **options) -> bytes:
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file := io.BytesIO(), format, **options)
    return file.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = orientation
    return exif


def chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def raw_png(width, height, depth, color, interlaced, extra=b"", seed=0) -> bytes:
    "A PNG file of random bytes, whatever its type: each row with a random filter."
    rng, channels = np.random.default_rng(seed), {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)] if interlaced else [(0, 0, 1, 1)]
    rows = [bytes([rng.integers(0, 5)]) + rng.bytes((-(-(width - x) // dx) * depth * channels + 7) // 8)
            for x, y, dx, dy in passes if width > x for _ in range(y, height, dy)]
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, color, 0, 0, interlaced])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")


# The pixels, in Node


NODE = """
import {readFileSync} from 'node:fs';
const {pixelsOf, sniff} = await import(process.argv[2]);
const found = [];
for (const {data, preprocess, browser} of JSON.parse(readFileSync(0))) {
  const bytes = new Uint8Array(Buffer.from(data, 'base64'));
  try {
    const pixels = preprocess ? await pixelsOf(bytes, preprocess, async () => new Uint8Array(Buffer.from(browser, 'base64'))) : null;
    found.push(pixels ? {pixels: Buffer.from(pixels).toString('base64')} : {format: sniff(bytes)});
  } catch (problem) {
    found.push({error: `${problem.constructor.name}: ${problem.message}`});
  }
}
console.log(JSON.stringify(found));
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    "Runs pixels.js for a list of cases."
    if not shutil.which("node"):
        pytest.skip("pixels.js is tested in Node, which is not installed")
    place = tmp_path_factory.mktemp("node")
    shutil.copy(ROOT / "image_classifier" / "web" / "pixels.js", place / "pixels.mjs")
    (place / "run.mjs").write_text(NODE)

    def run(cases):
        done = subprocess.run(["node", place / "run.mjs", place / "pixels.mjs"], input=json.dumps(cases), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
    return run


def case(data: bytes, size=20, channels=3, rule="crop", browser=None, **limits):
    "What Node gets; `browser` stands for the browser's decoder."
    preprocess = Preprocess(size, channels, rule, (0.5,) * channels, (0.5,) * channels, Limits(**limits))
    opened = browser and np.asarray(browser.convert("RGBA")).tobytes()
    return {"data": base64.b64encode(data).decode(), "preprocess": preprocess.as_dict(),
            "browser": opened and base64.b64encode(opened).decode()}, preprocess, data


def assert_equal_pixels(node, cases):
    for place, (one, (_, preprocess, data)) in enumerate(zip(node([sent for sent, *_ in cases]), cases, strict=True)):
        ours = preprocess.pixels(data)
        assert "pixels" in one, (place, one)
        theirs = np.frombuffer(base64.b64decode(one["pixels"]), np.uint8).reshape(ours.shape)
        assert np.array_equal(theirs, ours), (place, preprocess, abs(theirs.astype(int) - ours).max())


def test_resizing_gives_the_pixels_of_pillow(node):
    rng, cases = np.random.default_rng(0), []
    for place in range(90):
        width, height = rng.integers(1, 90, 2) if place % 10 else rng.integers(200, 700, 2)
        pixels = noise(width, height, *([], [3], [4])[place % 3], seed=place)
        cases.append(case(encoded(pixels), int(rng.integers(1, 64)), (1, 3, 4)[place // 3 % 3], RULES[place // 9 % 3]))
    assert_equal_pixels(node, cases)


def test_every_kind_of_png_gives_the_pixels_of_our_decoder(node):
    cases = []
    for color, depths in {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}.items():
        for number, (depth, interlaced, clear) in enumerate((d, i, c) for d in depths for i in (0, 1) for c in (0, 1)):
            extra = chunk(b"PLTE", np.random.default_rng(number).bytes(3 * min(2**depth, 200))) if color == 3 else b""
            transparent = {0: (2**depth - 1).to_bytes(2, "big"), 2: bytes(6), 3: bytes([9, 0, 200][:2**depth])}.get(color, b"")
            extra += chunk(b"tRNS", transparent) if clear and transparent else b""
            cases.append(case(raw_png(7 + number, 12, depth, color, interlaced, extra, number), 9, (1, 3, 4)[number % 3]))
    deep = encoded(noise(30, 20, kind=np.uint16) // 13)
    assert_equal_pixels(node, [*cases, case(deep, 20, 1), case(deep, 20, 1, integer_range=(100, 4000))])


def test_images_are_turned_upright_by_each_kind_of_metadata(node):
    cases, photo = [], Image.fromarray(noise(31, 18, 3))
    for orientation in range(1, 10):
        cases.append(case(encoded(photo, exif=turned(orientation)), 16))
        for format, options in (("jpeg", {}), ("webp", {"lossless": True})):
            data = encoded(photo, format, exif=turned(orientation), **options)
            cases.append(case(data, 16, browser=Image.open(io.BytesIO(data))))
    xmp = encoded(photo, "jpeg", xmp=b'<x:xmpmeta tiff:Orientation="6"/>')
    assert_equal_pixels(node, [*cases, case(xmp, 16, browser=Image.open(io.BytesIO(xmp)))])


GOOD = encoded(noise(20, 20, 3))
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>document.title = "owned"</script></svg>'
HUGE = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", (20000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
BAD = {"empty": b"", "text": b"hello", "cut": GOOD[:600], "end": GOOD[:-5], "flip": GOOD[:60] + bytes([GOOD[60] ^ 1]) + GOOD[61:], "svg": SVG, "huge": HUGE,
       "heic": b"\0\0\0\x18ftypheic" + bytes(40), "gif": b"GIF89a" + bytes(30), "jpeg": encoded(noise(20, 20, 3), "jpeg")[:-30], "jpeg head": b"\xff\xd8\xff\xe0\0\x10JFIF",
       "webp": encoded(noise(20, 20, 3), "webp")[:-30], "webp head": b"RIFF\xff\0\0\0WEBPVP8 ", "bmp": b"BM" + bytes(12) + b"\x28\0\0\0", "tiff": b"II*\0" + bytes(30)}


@pytest.mark.parametrize("name", BAD)
def test_what_our_decoder_refuses_is_refused_for_the_same_reason(node, name):
    sent, preprocess, data = case(BAD[name])
    with pytest.raises(DecodeError) as ours:
        preprocess.pixels(data)
    theirs = node([sent])[0].get("error", "")
    reason = re.sub("(.*) exceeds data.max_pixels=", r"too large: \1, at most ", ours.value.what)
    assert theirs.startswith(f"ImageError: {reason}"), (theirs, reason)


def test_a_file_over_the_limit_is_refused(node):
    sent = [case(GOOD, max_bytes=100)[0], case(bytes(1_450_000), max_bytes=1 << 20)[0]]
    assert [one["error"] for one in node(sent)] == [f"ImageError: too large: {len(GOOD)} B, at most 100 B", "ImageError: too large: 1.5 MB, at most 1.1 MB"]


def test_formats_are_told_apart_as_in_python(node):
    heads = [*BAD.values(), b"%PDF-1.7", b"  %PDF-", b"%!PS", b"8BPS", b"<!DOCTYPE HTML>", b"<?xml?><svg>", b"\xef\xbb\xbf<svg", b"\0\0\0\x0cjP  ", b"II+\0", b"P6 1 1 255 ",
             b"P5 # a\n 3 ", b"SIMPLE  =", b"\0\0\1\0", b"PK\3\4", b"\0\0\0\x20ftypavif", b"\0\0\0\x20ftypmif1", b"RIFF1234WEBP", b"RIFF1234WAVE", b"GIF87a", b"\xc5\xd0\xd3\xc6"]
    assert [one["format"] for one in node([{"data": base64.b64encode(head).decode()} for head in heads])] == [sniff(head) for head in heads]


# The folder


RUNTIME = {"package/dist/ort-wasm-simd-threaded.mjs": b"glue", "package/dist/ort-wasm-simd-threaded.wasm": b"wasm", "package/dist/ort.wasm.min.mjs": b"""
export const env = {wasm: {}};
export class Tensor {
  constructor(type, data, dims) { Object.assign(this, {type, data, dims}); }
}
export const InferenceSession = {create: async file => {
  const classes = Number(new TextDecoder().decode(file));
  return {run: async ({pixels: {data}}) => {
    const first = data.reduce((sum, value) => sum + value, 0) / data.length / 255, rest = (1 - first) / (classes - 1);
    return {probabilities: {data: Float32Array.from({length: classes}, (_, i) => (i ? rest : first))}, features: {data: Float32Array.of(first, 1 - first)}};
  }};
}};
"""}  # a stand-in: the brighter an image, the more probable is the first class


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    "An archive in place of the runtime's, which is named by the variable; its hash is known to the export."
    path = tmp_path / "runtime.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in {**RUNTIME, "../../outside": b"x"}.items():
            one = tarfile.TarInfo(name)
            one.size = len(content)
            archive.addfile(one, io.BytesIO(content))
    known = RemoteFile("onnxruntime-web-1.22.0.tgz", f"sha512:{hashlib.sha512(path.read_bytes()).hexdigest()}", ("https://registry.example/",))
    monkeypatch.setattr(web_folder, "WEB_RUNTIME", known)
    monkeypatch.setenv(RUNTIME_VARIABLE, str(path))
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    "An artifact whose ONNX form is made at once."
    def quick(job):
        (job.folder / "model.onnx").write_bytes(b"a model")
        return ExportedForm("onnx", job.folder / "model.onnx")
    monkeypatch.setitem(export_formats.EXPORTERS, "onnx", quick)
    preprocess = Preprocess(8, 1, "crop", (0.5,), (0.5,))
    return Classifier(build_model("simple_cnn", channels=1, classes=2, size=8, seed=0), preprocess, [HOSTILE, "</script>\u202e😀"]).save(tmp_path / "classifier")


def test_an_export_puts_a_complete_folder_beside_the_classifier(folder, stand_in):
    form = export_artifact(folder, "web")[-1]
    assert form.folder == folder.with_name("classifier-web") and not form.files
    names = {"index.html", "page.css", "page.js", "backend.js", "problem.js", "pixels.js", "web.json", "model.onnx", "ort.js", "ort-glue.js", "ort.wasm",
             "ort-LICENSE.txt", "README.txt"}
    assert set(check_manifest(form.folder)) == names and not (folder.parent.parent / "outside").exists()
    about = json.loads((form.folder / "web.json").read_text())
    assert about["classes"] == [HOSTILE, "</script>\u202e😀"] and HOSTILE not in (form.folder / "index.html").read_text()
    figures = json.loads((folder / "exports.json").read_text())["forms"]["web"]
    assert figures["folder"] == "classifier-web" and figures["bytes"] == form.size == sum(file.stat().st_size for file in form.folder.iterdir())
    assert "| `web` | `classifier-web/` |" in (folder / "README.md").read_text() and Classifier.load(folder)


def test_a_later_export_replaces_the_folder_but_no_files_of_others(folder, stand_in):
    made = export_artifact(folder, "web")[-1].folder
    export_artifact(folder, "web")
    (made / "CNAME").write_text("example.org")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(ConfigError, match="holds files that would be deleted: CNAME"):
        export_artifact(folder, "web")
    assert (made / "CNAME").is_file() and {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("change, reason", [(lambda data: data[:-9], "or damaged"), (lambda data: data[:40] + b"x" + data[41:], "or damaged"), (lambda data: b"", "is empty|or damaged")])
def test_a_damaged_runtime_is_refused_and_nothing_is_written(folder, stand_in, change, reason):
    stand_in.write_bytes(change(stand_in.read_bytes()))
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(ArtifactError, match=reason) as problem:
        export_artifact(folder, "web")
    assert problem.value.exit_code == 4 and not folder.with_name("classifier-web").exists()
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_without_a_network_one_line_says_what_to_do(folder, monkeypatch):
    def fail(*_):
        raise DataError("could not download onnxruntime-web-1.22.0.tgz: registry.npmjs.org failed (ConnectionError)")
    monkeypatch.delenv(RUNTIME_VARIABLE, raising=False)
    monkeypatch.setattr(web_folder, "fetch", fail)
    with pytest.raises(ConfigError, match="could not download.*name the file onnxruntime-web-1.22.0.tgz in the variable IMAGE_CLASSIFIER_WEB_RUNTIME") as problem:
        export_artifact(folder, "web")
    assert problem.value.exit_code == 2 and "\n" not in str(problem.value)
    monkeypatch.setenv(RUNTIME_VARIABLE, "/no/such.tgz")
    with pytest.raises(ConfigError, match="no such file"):
        export_artifact(folder, "web")


# In a browser


class Host(SimpleHTTPRequestHandler):
    "A static host at a path of its own, which sends no header but the type."
    def log_message(self, *_):
        "Keep quiet."


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    "A served folder and its address."
    place = tmp_path_factory.mktemp("host")
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Host, directory=place)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield place, f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def window():
    "A page of a browser, with what it complained about and asked for."
    api = pytest.importorskip("playwright.sync_api", reason="the page is tested in a browser: pip install playwright")
    if not CHROMIUM:
        pytest.skip("the page is tested in a browser: install chromium")
    with api.sync_playwright() as play:
        running = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        opened, errors, urls = running.new_page(), [], []
        opened.set_default_timeout(20_000)
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
        opened.on("request", lambda request: urls.append(request.url))
        yield opened, errors, urls
        running.close()


@pytest.fixture
def visit(window, host):
    "Opens a page for a classifier of these classes, some levels below the host's root. At the end: no error, no request elsewhere."
    opened, errors, urls = window
    place, address = host

    def open(classes, **more):
        name = f"path {len(list(place.iterdir()))}"
        made = place / name / "deeper"
        made.mkdir(parents=True)
        preprocess = Preprocess(16, 3, "crop", (0.5,) * 3, (0.5,) * 3, more.pop("limits", Limits()))
        notes = {"version": "1", "source": "2f1c09ab" * 8, "classes": json.dumps(classes), "preprocess": json.dumps(preprocess.as_dict())}
        classifier = Classifier(build_model("simple_cnn", channels=3, classes=2, size=16, seed=0), preprocess, ["a", "b"], threshold=more.get("threshold"))
        classifier.detector = more.get("detector")
        write_web_folder(made, str(len(classes)).encode(), notes, classifier, {"ort.js": RUNTIME["package/dist/ort.wasm.min.mjs"], "ort-glue.js": b"", "ort.wasm": b""})
        opened.set_viewport_size({"width": 1000, "height": 800})
        opened.goto(f"{address}{name}/deeper/")
        return opened, preprocess
    yield open
    opened.evaluate("0")
    found, asked = [*errors], [*urls]
    errors.clear(), urls.clear()
    assert found == [] and [url for url in asked if not url.startswith((address, "blob:" + address, "data:image/"))] == []


def test_an_image_is_classified_on_the_device(visit):
    page, preprocess = visit(["bright", "dark"])
    data = encoded(noise(50, 40, 3) // 2 + 120)
    page.set_input_files("#files", files(data, "photo.png"))
    mean = preprocess.pixels(data).mean() / 255
    wait_for(page, "#best", f"bright, {100 * mean:.1f} %")
    assert "Model 2f1c09ab, computed on this device in" in page.inner_text("#origin") and page.locator("#explain").is_hidden()
    assert page.inner_text("header").split("\n")[-1] == "Your images stay on this device." and not shown(page, "#notes li")
    assert page.inner_text("#kinds") == "Recognizes bright or dark"


def test_photos_that_the_browser_decodes_give_our_pixels(visit):
    page, preprocess = visit(["a", "b"])
    photo = Image.fromarray(noise(60, 44, 3)).resize((130, 90), Image.Resampling.BICUBIC)
    kinds = {"a.jpg": encoded(photo, "jpeg"), "b.jpg": encoded(photo, "jpeg", exif=turned(6)), "c.jpg": encoded(photo.convert("L"), "jpeg"),
             "d.webp": encoded(photo, "webp"), "e.webp": encoded(photo, "webp", lossless=True, exif=turned(3)), "f.bmp": encoded(photo, "bmp"),
             "g.png": encoded(photo, exif=turned(8))}
    found = page.evaluate("""async files => {
        const backend = await import('./backend.js');
        return Promise.all(files.map(async data => Array.from(await backend.readPixels(new Blob([Uint8Array.from(atob(data), c => c.charCodeAt())])))));
    }""", [base64.b64encode(data).decode() for data in kinds.values()])
    for (name, data), theirs in zip(kinds.items(), found):
        assert np.array_equal(np.reshape(theirs, (3, 16, 16)), preprocess.pixels(data)), name


def test_marks_are_those_of_the_classifier(visit):
    detector = OODDetector(np.array([[2, 0], [1, 3]], np.float32), np.array([[1, 2]], np.float32), 0.975)
    page, _ = visit(["bright", "dark"], threshold=0.7, detector=detector)
    names = []
    for level in (10, 120, 250):
        feature = level / 255
        unlike = bool(detector.is_unlike(np.array([[feature, 1 - feature]]))[0])
        names.append("Let a person look." * (max(feature, 1 - feature) < 0.7) + " Unlike the training images." * unlike)
    page.set_input_files("#files", [files(encoded(np.full((20, 20, 3), level, np.uint8)), f"{level}.png")[0] for level in (10, 120, 250)])
    ended(page, "3 of 3 images")
    assert shown(page, "tbody td:last-child") == [name.strip() for name in names] and len(set(names)) == 3


def test_bad_files_are_refused_and_good_ones_are_answered(visit):
    page, _ = visit(["a", "b"])
    page.set_input_files("#files", [files(data, name)[0] for name, data in {**BAD, "good": GOOD}.items()])
    ended(page, f"{len(BAD) + 1} of {len(BAD) + 1} images")
    notes = dict(zip(shown(page, "tbody th"), shown(page, "tbody td:last-child")))
    assert notes["good"] == "" and all(notes[name] for name in BAD) and page.title() == "Image classifier"
    assert notes["svg"] == "content is SVG, which is not allowed; convert it to png" and notes["huge"] == "too large: 400 Mpx, at most 50 Mpx"
    page.set_input_files("#files", files(BAD["svg"], "<b>.svg"))
    page.get_by_role("alert").filter(has_text="The image cannot be classified. content is SVG").wait_for()
    page.set_input_files("#files", files(HUGE, "huge.png"))
    page.get_by_role("alert").filter(has_text="too large: 400 Mpx, at most 50 Mpx").wait_for()
    assert page.locator("#preview").is_hidden(), "a browser would stop for minutes to draw it"


def test_a_row_opens_with_the_answer_that_is_there(visit):
    page, _ = visit(["bright", "dark"])
    page.set_input_files("#files", files(encoded(np.full((20, 20, 3), 204, np.uint8)), "a.png", "b.png"))
    ended(page, "2 of 2 images")
    page.get_by_role("button", name="b.png").click()
    wait_for(page, "#best", "bright, 80.0 %")
    assert page.locator("#preview").is_visible() and shown(page, "#ranking .name") == ["bright", "dark"] and page.locator("#explain").is_hidden()
    page.click("#back")
    assert page.locator("tbody tr").count() == 2 and page.locator("#single").is_hidden()


def test_names_are_text_and_ten_thousand_classes_fit_a_phone(visit):
    page, _ = visit([HOSTILE, "</script>\u202e😀", *(f"class {number} " + "long" * 20 for number in range(9998))])
    page.set_viewport_size({"width": 400, "height": 800})
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "drop"
    page.set_input_files("#files", files(GOOD, HOSTILE))
    wait_for(page, "#best", HOSTILE)
    assert page.inner_text("#kinds").startswith(f"Recognizes {HOSTILE[:29]}…, </script>") and page.inner_text("#kinds").endswith(" and 9,995 more")
    page.click("text=Show all 10,000 classes")
    page.click("summary")
    wait_for(page, "#classes li >> nth=9999", "class 9997")
    assert page.locator("#ranking li").count() == 10_000 and page.locator("img").count() == 2 and page.title() == "Image classifier"
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_a_model_that_cannot_be_loaded_is_said_and_tried_again(visit, window):
    page, _ = visit(["a", "b"])
    page.route("**/model.onnx*", lambda route: route.fulfill(status=404))
    page.reload()
    page.set_input_files("#files", files(GOOD, "photo.png"))
    page.get_by_role("alert").filter(has_text="The model cannot be loaded. model.onnx: the host does not send it.").wait_for()
    page.unroute_all()
    page.click("#again")
    wait_for(page, "#best", "a, ")
    until(page, "document.querySelector('#problem-text').textContent === ''")
    assert [error for error in window[1] if not error.startswith("Failed to load resource: ")] == []
    window[1].clear()


@pytest.mark.skipif(not os.environ.get(RUNTIME_VARIABLE), reason=f"the real runtime is not there: {RUNTIME_VARIABLE} names its file")
def test_the_real_runtime_answers_as_the_classifier(window, host, tmp_path):
    pytest.importorskip("onnx", reason="the extra export is not installed")
    preprocess = Preprocess(32, 3, "crop", (0.4, 0.5, 0.6), (0.2, 0.3, 0.2))
    classifier = Classifier(build_model("simple_cnn", channels=3, classes=5, size=32, seed=0), preprocess, list("abcde"), temperature=0.2, tta="flip")
    classifier.save(tmp_path / "classifier")
    shutil.copytree(classifier.export(to="web")[-1].folder, host[0] / "real")
    page = window[0]
    page.goto(host[1] + "real/")
    data = encoded(noise(70, 50, 3))
    page.set_input_files("#files", files(data, "photo.png"))
    page.locator("#answer:visible").wait_for(timeout=20_000)
    prediction = classifier.predict(data)
    assert page.inner_text("#best") == f"{prediction.predicted_class}, {100 * prediction.confidence:.1f} %"
    assert window[1] == []
