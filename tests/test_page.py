"""The server's web page in a real browser, against a server with canned answers: what a person sees, hears and downloads."""
import csv
import io
import json
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from image_classifier.serving import PAGES, read_page

POLICY = "default-src 'self'; img-src 'self' data: blob:"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
RANKED = [("owl", 0.7123), ("cat", 0.2), ("dog", 0.0875), *((f"class {number}", 0.0002) for number in range(9))]
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="


# A server with canned answers


def prediction(ranked=RANKED, **more) -> dict:
    return {"predicted_class": ranked[0][0], "confidence": ranked[0][1], "all_probabilities": [{"class": name, "probability": p} for name, p in ranked],
            "model_version": "2f1c09ab", "request_id": "r-1", **more}


def problem(status: int, title: str, detail: str, **headers) -> tuple:
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "request_id": "r-9"}
    return status, body, {"Content-Type": "application/problem+json", **{name.replace("_", "-"): value for name, value in headers.items()}}


def batch(names: list[str]) -> dict:
    results = [{"filename": name, "error": "truncated image"} if "bad" in name else
               {"filename": name, "predicted_class": "owl", "confidence": 0.91, "below_threshold": False, "out_of_distribution": "odd" in name} for name in names]
    return {"results": results, "model_version": "2f1c09ab", "request_id": "r-2"}


class Stub(ThreadingHTTPServer):
    "Answers with the page's files, and with what `answer` returns for a request: a body, or status, body and headers."
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"
        self.reset()

    def reset(self):
        self.requests, self.answer = [], self.usual

    def usual(self, request):
        if request.path == "/classes":
            return {"classes": [name for name, _ in RANKED]}
        if request.path == "/openapi.json":
            return OPENAPI
        if request.path == "/predict_batch":
            return batch(request.names)
        return prediction(**({"heat_map": PIXEL, "heat_map_text": "evidence for 'owl' is strongest 25 % from the left"} if "explain" in request.path else {}))

    def handle_error(self, request, client_address):
        "A browser that aborts a request is no error."


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        "Keep quiet."

    def send(self, status, body, headers):
        self.send_response(status)
        for name, value in {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path in PAGES:
            body, kind = read_page(self.path)
            return self.send(200, body, {"Content-Type": kind})
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = SimpleNamespace(path=self.path, headers=self.headers, fields=set(re.findall(rb' name="([^"]*)"', body)),
                                  names=[name.decode() for name in re.findall(rb'filename="([^"]*)"', body)])
        self.server.requests.append(request)
        answer = self.server.answer(request)
        status, content, headers = answer if isinstance(answer, tuple) else (200, answer, {})
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send(status, content, {"Content-Type": "application/json", **headers})

    do_POST = do_GET


OPENAPI = {
    "openapi": "3.1.0", "info": {"title": "Image classifier", "version": "0.1.0", "description": "Classify images with `POST /predict`."},
    "paths": {
        "/health": {"get": {"summary": "What runs here", "responses": {"200": {"description": "It runs.", "content": {"application/json": {"schema": {
            "type": "object", "properties": {"status": {"type": "string"}, "model_loaded": {"type": "boolean"}}, "required": ["status"]}}}}}}},
        "/predict": {"post": {
            "summary": "Classify one image", "description": HOSTILE,
            "parameters": [{"name": "top_k", "in": "query", "description": "How many classes.", "schema": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}},
                           {"name": "explain", "in": "query", "schema": {"type": "boolean", "default": False}}],
            "requestBody": {"required": True, "content": {
                "multipart/form-data": {"schema": {"type": "object", "required": ["file"], "properties": {
                    "file": {"type": "string", "format": "binary", "description": "The image."}}}},
                "image/png": {"schema": {"type": "string", "format": "binary"}}}},
            "responses": {"200": {"description": "The ranked classes.", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Answer"}}}},
                          "413": {"$ref": "#/components/responses/Problem"}}}}},
    "components": {
        "responses": {"Problem": {"description": "What is wrong.", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}},
        "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "If the server asks for one."}},
        "schemas": {
            "Answer": {"type": "object", "required": ["predicted_class", "all_probabilities"], "properties": {
                "predicted_class": {"type": "string", "description": "The most probable class."},
                "all_probabilities": {"type": "array", "items": {"$ref": "#/components/schemas/Share"}, "description": "Sorted."},
                "below_threshold": {"type": "boolean"}, "heat_map": {"type": ["string", "null"]}}},
            "Share": {"type": "object", "required": ["class", "probability"], "properties": {
                "class": {"type": "string"}, "probability": {"type": "number", "minimum": 0, "maximum": 1}}},
            "Problem": {"type": "object", "properties": {"status": {"type": "integer"}, "detail": {"type": "string"}}}}}}


# A browser


@pytest.fixture(scope="module")
def stub():
    with Stub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def window(stub):
    "One page of one browser, with what it complained about and asked for."
    api = pytest.importorskip("playwright.sync_api", reason="the page is tested in a browser: pip install playwright")
    if not CHROMIUM:
        pytest.skip("the page is tested in a browser: install chromium")
    with api.sync_playwright() as play:
        flags = ["--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        running = play.chromium.launch(executable_path=CHROMIUM, args=flags)
        opened, errors, urls = running.new_page(), [], []
        opened.set_default_timeout(4000)
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
        opened.on("request", lambda request: urls.append(request.url))
        opened.on("filechooser", lambda _: None)  # else Playwright begins to listen for one while the key is already pressed
        yield opened, errors, urls
        running.close()


@pytest.fixture
def page(window, stub):
    "The page, newly loaded. At the end: no error, nothing that the policy forbids, no request to another host."
    opened, errors, urls = window
    stub.reset()
    opened.set_viewport_size({"width": 1000, "height": 800})
    opened.goto(stub.url)
    wait_for(opened, "#kinds", "owl")  # the classes, which the page asks for when it opens
    stub.requests.clear()
    yield opened
    opened.unroute_all()
    opened.evaluate("0")  # what happened last is delivered
    found, asked = [*errors], [*urls]
    errors.clear(), urls.clear()
    assert [error for error in found if not error.startswith("Failed to load resource: ")] == []
    assert [url for url in asked if not url.startswith((stub.url, "blob:" + stub.url, "data:image/"))] == []


@pytest.fixture(scope="module")
def picture() -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((60, 40)).convert("RGB").save(file, "png")
    return file.getvalue()


def files(picture: bytes, *names: str) -> list[dict]:
    return [{"name": name, "mimeType": "image/png", "buffer": picture} for name in names]


def give(page, picture, *names):
    page.set_input_files("#files", files(picture, *names))


def shown(page, selector: str) -> list[str]:
    return page.locator(selector).all_inner_texts()


def wait_for(page, selector: str, text: str):
    page.locator(selector, has_text=text).wait_for()


def until(page, script: str):
    "Wait until a script says true; Playwright's own way needs `eval`, which the policy forbids."
    for _ in range(200):
        if page.evaluate(script):
            return
        page.wait_for_timeout(10)
    raise AssertionError(script)


def ended(page, count: str):
    wait_for(page, "#status:not(.busy)", f"{count} done")


def drop(page, *paths: Path):
    "Drop files or folders as a file manager does."
    x, y = page.locator("#drop").evaluate("e => [e.getBoundingClientRect().x + 20, e.getBoundingClientRect().y + 20]")
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        session.send("Input.dispatchDragEvent", {"type": kind, "x": x, "y": y, "data": data})
        assert page.locator("#drop.over").count() == (kind != "drop")


# One image


def test_an_image_is_answered_with_ranked_classes(page, stub, picture):
    give(page, picture, "photo.png")
    wait_for(page, "#best", "owl, 71.2 %")
    assert stub.requests[0].fields == {b"file"} and stub.requests[0].names == ["photo.png"]
    assert page.locator("#preview").evaluate("image => image.naturalWidth") == 60
    assert shown(page, "#ranking .name") == ["owl", "cat", "dog", *(f"class {number}" for number in range(7))]
    assert shown(page, "#ranking .number")[:4] == ["71.2 %", "20.0 %", "8.8 %", "< 0.1 %"]
    widths = page.locator("#ranking .bar").evaluate_all("bars => bars.map(bar => parseFloat(getComputedStyle(bar, '::before').width) / bar.clientWidth)")
    assert widths[:3] == pytest.approx([0.7123, 0.2, 0.0875], abs=0.01)
    assert page.inner_text("#status") == "owl, 71.2 %." and shown(page, "#notes li") == []
    page.get_by_role("button", name="Show all 12 classes").click()
    assert page.locator("#ranking li").count() == 12 and page.evaluate("document.activeElement.textContent").startswith("class 7")


def test_the_heat_map_comes_on_request(page, stub, picture):
    give(page, picture, "photo.png")
    page.get_by_role("button", name="Where did it look?").click()
    wait_for(page, "#heat-map figcaption", "strongest 25 % from the left")
    assert page.get_attribute("#heat-map img", "src") == PIXEL and [one.path for one in stub.requests] == ["/predict", "/predict?explain=true"]
    give(page, picture, "next.png")
    page.locator("#answer").wait_for()
    assert page.locator("#heat-map").is_hidden(), "the heat map of another image"


def test_a_reader_learns_when_to_distrust_the_answer(page, stub, picture):
    stub.answer = lambda request: prediction(below_threshold=True, out_of_distribution=True, warnings=["first of 50 frames"])
    give(page, picture, "photo.png")
    page.locator("#answer").wait_for()
    assert shown(page, "#notes li") == ["Not sure enough: let a person look.", "Unlike the training images: the class may mean nothing.", "first of 50 frames"]
    assert "let a person look" in page.inner_text("#status")


def test_images_can_be_dropped_and_pasted(page, picture, tmp_path):
    (tmp_path / "dropped.png").write_bytes(picture)
    drop(page, tmp_path / "dropped.png")
    wait_for(page, "#preview-name", "dropped.png")
    page.evaluate("""bytes => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], 'pasted.png', {type: 'image/png'}));
        document.body.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true}));
    }""", list(picture))
    wait_for(page, "#preview-name", "pasted.png")
    page.locator("#answer").wait_for()


def test_a_dropped_folder_gives_its_images_with_their_paths(page, stub, picture, tmp_path):
    for name in ("a/2.png", "a/10.png", "a/.hidden", "b.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(picture)
    drop(page, tmp_path / "set")
    ended(page, "3 of 3 images")
    assert stub.requests[0].names == ["set/a/2.png", "set/a/10.png", "set/b.png"] == shown(page, "tbody th")


def test_the_camera_gives_an_image(page, stub):
    page.click("#camera")
    page.click("#take")
    wait_for(page, "#best", "owl")
    assert stub.requests[0].names == ["camera.jpg"] and page.locator("#preview").evaluate("image => image.naturalWidth > 300")
    page.click("#camera")
    page.locator("#take:enabled").wait_for()
    page.keyboard.press("Escape")
    until(page, "!document.querySelector('video').srcObject")  # the camera's light goes off


# Errors


@pytest.mark.parametrize("answer, text, again", [
    (problem(422, "Unprocessable Entity", "truncated image"), "The image cannot be classified. truncated image.", False),
    (problem(415, "Unsupported Media Type", "not an image. allowed are png, jpeg"), "The image cannot be classified. not an image; allowed are png, jpeg.", False),
    (problem(413, "Content Too Large", "81 Mpx exceeds the classifier's limit of 50 Mpx"), "The image cannot be classified. too large: 81 Mpx, at most 50 Mpx.", False),
    ((413, b"<html>413 Request Entity Too Large</html>", {"Content-Type": "text/html"}), "The image cannot be classified. too large: 0.1 MB.", False),
    (problem(404, "Not Found", "nothing here"), "The server refuses the request. nothing here.", False),
    (problem(500, "Internal Server Error", "see the log"), "The server failed. see the log (request r-9).", True),
    ((502, b"<html>Bad gateway</html>", {"Content-Type": "text/html"}), "The server cannot answer now.", True),
    ((200, b"<html>Sign in</html>", {"Content-Type": "text/html"}), "The answer cannot be read.", True),
    ({"detail": "of another version"}, "The answer lacks probabilities. Is this page of the same version as the server?", False)])
def test_an_error_is_said(page, stub, picture, answer, text, again):
    stub.answer = lambda request: answer
    give(page, picture, "photo.png")
    page.locator("#problem.shown").wait_for()
    assert page.get_by_role("alert").inner_text().strip() == text
    assert page.locator("#again").is_visible() == again and page.locator("#answer").is_hidden()


@pytest.mark.parametrize("detail", ["limit is 10485760 bytes", "limit is 336592896 bytes for the whole form, 10485760 for an image", "14.5 MB exceeds the classifier's limit of 10.5 MB"])
def test_a_file_that_is_too_large_is_said_in_megabytes(page, stub, tmp_path, detail):
    (tmp_path / "big.png").write_bytes(bytes(14_412_345))
    stub.answer = lambda request: problem(413, "Content Too Large", detail)
    page.set_input_files("#files", tmp_path / "big.png")
    page.locator("#problem.shown").wait_for()
    assert page.get_by_role("alert").inner_text() == "The image cannot be classified. too large: 14.5 MB, at most 10.5 MB."


def test_a_busy_server_is_asked_again_when_it_says(page, stub, picture):
    stub.answer = lambda request: problem(503, "Busy", "The queue is full.", Retry_After="1")
    give(page, picture, "photo.png")
    page.get_by_role("alert").filter(has_text="The server cannot answer now. The queue is full. Try again in 1 second.").wait_for()
    assert page.locator("#again").is_disabled() and page.inner_text("#again") == "Try again in 1 s"
    stub.answer = stub.usual
    page.click("#again")  # waits until it is enabled
    wait_for(page, "#best", "owl")
    assert page.inner_text("#problem") == ""


def test_a_server_that_is_down_is_said_and_tried_again(page, picture):
    page.route("**/predict", lambda route: route.abort())
    give(page, picture, "photo.png")
    page.get_by_role("alert").filter(has_text="The server does not answer.").wait_for()
    page.unroute("**/predict")
    page.get_by_role("button", name="Try again").click()
    wait_for(page, "#best", "owl")


def test_a_file_that_is_gone_is_said(page, picture, tmp_path):
    (tmp_path / "gone.png").write_bytes(picture)
    (tmp_path / "kept.png").write_bytes(picture)
    page.evaluate("document.addEventListener('change', event => event.stopPropagation(), {capture: true, once: true})")  # the page hears of them later
    page.set_input_files("#files", [tmp_path / "gone.png", tmp_path / "kept.png"])
    (tmp_path / "gone.png").unlink()
    page.dispatch_event("#files", "change")
    ended(page, "2 of 2 images")
    assert shown(page, "tbody td:last-child") == ["The file cannot be read any more. Choose it again.", ""]


def test_text_that_is_dropped_or_pasted_is_no_image(page, stub):
    page.evaluate("document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: new DataTransfer(), bubbles: true}))")
    page.get_by_role("alert").filter(has_text="No image file was given.").wait_for()
    assert not stub.requests


def test_a_server_with_a_key_asks_for_it_once(page, stub, picture):
    stub.answer = lambda request: stub.usual(request) if request.headers["x-api-key"] == "s3cret!" else problem(401, "Unauthorized", "send the API key in the header")
    give(page, picture, "photo.png")
    field = page.get_by_label("API key")
    field.wait_for()
    assert field.get_attribute("type") == "password" and page.evaluate("document.activeElement.id") == "key"
    assert page.get_by_role("alert").inner_text().strip() == "This server needs a key."
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    wait_for(page, "#problem-text", "That key was not accepted.")
    assert page.evaluate("document.activeElement.id === 'key' && !document.activeElement.value") and "header" not in page.inner_text("#problem")
    page.keyboard.type(" s3cret! ")
    page.keyboard.press("Enter")
    wait_for(page, "#best", "owl")
    give(page, picture, "a.png", "b.png")
    ended(page, "2 of 2 images")
    assert page.locator("#key-form").is_hidden()
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""] and "s3cret" not in page.content()


def test_a_server_with_a_key_asks_when_the_page_opens(page, stub, picture):
    stub.answer = lambda request: stub.usual(request) if request.headers["x-api-key"] == "right" else problem(401, "Unauthorized", "send the API key in the header")
    page.reload()
    wait_for(page, "#problem-text", "This server needs a key.")
    assert page.evaluate("document.activeElement.id") == "key" and page.inner_text("#kinds") == ""
    page.keyboard.type("right")
    page.keyboard.press("Enter")
    wait_for(page, "#kinds", "owl")
    assert page.locator("#key-form").is_hidden() and page.evaluate("document.activeElement.id") == "drop"


def test_an_older_answer_never_replaces_a_newer_one(page, stub, picture):
    late = threading.Event()

    def answer(request):
        if request.names == ["slow.png"]:
            late.wait(2)
            return prediction([("stale", 1.0)])
        return prediction()

    stub.answer = answer
    give(page, picture, "slow.png")
    wait_for(page, "#status.busy", "slow.png")
    give(page, picture, "new.png")
    wait_for(page, "#best", "owl")
    late.set()
    page.wait_for_timeout(100)
    assert page.inner_text("#best") == "owl, 71.2 %" and "stale" not in page.inner_text("main")


# Several images


def test_several_images_fill_a_table_in_groups(page, stub, picture):
    names = [f"{number}.png" for number in range(38)] + ["bad.png", "odd.png"]
    give(page, picture, *names)
    ended(page, "40 of 40 images")
    assert [len(one.names) for one in stub.requests] == [32, 8] and stub.requests[0].fields == {b"files"}
    assert shown(page, "tbody tr:first-child > *") == ["0.png", "owl", "91.0 %", ""]
    assert shown(page, "tbody tr:nth-child(39) > *") == ["bad.png", "", "", "truncated image"]
    assert shown(page, "tbody tr:nth-child(40) > *")[3] == "Unlike the training images."
    assert "1 error" in page.inner_text("#status") and page.locator("#progress").is_hidden()
    assert page.locator("table").get_by_role("columnheader").count() == 4 and page.locator("table").get_by_role("rowheader").count() == 40


def test_a_group_holds_at_most_8_mebibytes(page, stub, tmp_path):
    big = [tmp_path / f"{number}.png" for number in range(3)]
    for file in big:
        file.write_bytes(bytes(3 << 20))
    page.set_input_files("#files", big)
    ended(page, "3 of 3 images")
    assert [len(one.names) for one in stub.requests] == [2, 1]


def test_a_refused_group_is_sent_one_by_one(page, stub, picture):
    stub.answer = lambda request: problem(413, "Too large", "limit is 10485760 bytes") if "huge.png" in request.names else stub.usual(request)
    give(page, picture, "a.png", "huge.png", "b.png")
    ended(page, "3 of 3 images")
    assert page.inner_text("#status").endswith("1 error") and page.locator("td.error").count() == 1
    assert shown(page, "tbody td:nth-child(2)") == ["owl", "", "owl"] and shown(page, "td.error") == ["too large: 0.1 MB, at most 10.5 MB"]


def test_after_a_failure_only_the_missing_images_are_sent(page, stub, picture):
    stub.answer = lambda request: problem(503, "Busy", "") if len(stub.requests) > 1 else stub.usual(request)
    give(page, picture, *(f"{number}.png" for number in range(35)))
    page.get_by_role("alert").filter(has_text="The server cannot answer now.").wait_for()
    assert shown(page, "tbody td:last-child").count("waiting") == 3
    stub.answer = stub.usual
    page.click("#again")
    ended(page, "35 of 35 images")
    assert [len(one.names) for one in stub.requests] == [32, 3, 3]


def test_each_row_shows_its_picture_and_opens(page, stub, picture):
    page.evaluate("URL.revoked = []; const revoke = URL.revokeObjectURL; URL.revokeObjectURL = url => { URL.revoked.push(url); revoke.call(URL, url); }; 0")
    page.set_input_files("#files", [*files(picture, "a.png", "b.png"), *files(b"no image", "bad.png")])
    ended(page, "3 of 3 images")
    pictures = page.locator("tbody img")
    until(page, "[...document.querySelectorAll('tbody img')].filter(image => getComputedStyle(image).visibility === 'visible').length === 2")
    assert pictures.evaluate_all("all => all.map(one => one.naturalWidth)") == [60, 60, 0]
    assert all(0 < box["width"] <= 64 and 0 < box["height"] <= 64 for box in (one.bounding_box() for one in pictures.all()))
    page.get_by_role("button", name="b.png").focus()
    page.keyboard.press("Enter")
    wait_for(page, "#best", "owl, 71.2 %")
    assert page.inner_text("#preview-name") == "b.png" and page.locator("#several").is_hidden() and stub.requests[-1].names == ["b.png"]
    page.click("#explain")
    page.locator("#heat-map").wait_for()
    page.locator("#back").focus()
    page.keyboard.press("Enter")
    ended(page, "3 of 3 images")
    assert page.evaluate("document.activeElement.textContent") == "b.png" and page.locator("#single").is_hidden() and len(stub.requests) == 3
    stub.answer = lambda request: problem(422, "Unprocessable Entity", "truncated image")
    page.get_by_role("button", name="bad.png").click()
    wait_for(page, "#problem-text", "The image cannot be classified. truncated image.")
    assert page.locator("#answer").is_hidden() and page.locator("#heat-map").is_hidden() and page.locator("#preview").is_hidden()
    page.click("#back")
    assert page.inner_text("#problem") == "" and page.locator("tbody tr").count() == 3
    urls = pictures.evaluate_all("all => all.map(one => one.src)")
    give(page, picture, "next.png")
    assert page.evaluate("URL.revoked")[:2] == urls[:2] and len(page.evaluate("URL.revoked")) == 3 and page.locator("#back").is_hidden() and page.locator("tbody tr").count() == 0


def test_a_table_waits_while_one_of_its_rows_is_shown(page, stub, picture):
    late = threading.Event()
    stub.answer = lambda request: late.wait(5) and None or stub.usual(request) if "33.png" in request.names else stub.usual(request)
    give(page, picture, *(f"{number}.png" for number in range(34)))
    wait_for(page, "#status.busy", "32 of 34")
    page.click("text=0.png >> nth=0")
    wait_for(page, "#best", "owl, 71.2 %")
    late.set()
    page.click("#back")
    ended(page, "34 of 34 images")
    assert [len(one.names) for one in stub.requests] == [32, 2, 1, 2]


def test_the_csv_file_is_safe_and_complete(page, stub, picture):
    names = ["=1+1.png", "@a, b.png", "bad.png", "ü.png"]
    stub.answer = lambda request: {**batch(request.names), "results": [{**one, **({"predicted_class": '-"x"\ny'} if "ü" in one["filename"] else {})}
                                                                       for one in batch(request.names)["results"]]}
    give(page, picture, *names)
    ended(page, "4 of 4 images")
    with page.expect_download() as waiting:
        page.click("#download")
    data = Path(waiting.value.path()).read_bytes()
    assert waiting.value.suggested_filename == "predictions.csv" and data.startswith(b"\xef\xbb\xbf") and data.count(b"\r\n") == 5
    rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))
    assert rows == [["file", "predicted_class", "confidence", "below_threshold", "out_of_distribution", "error"],
                    ["'=1+1.png", "owl", "0.91", "false", "false", ""], ["'@a, b.png", "owl", "0.91", "false", "false", ""],
                    ["bad.png", "", "", "", "", "truncated image"], ["ü.png", "'-\"x\"\ny", "0.91", "false", "false", ""]]


# For everyone, and against everyone


def test_the_page_works_by_keyboard_alone(page, picture):
    for key in ("Enter", "Space"):
        page.reload()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "API reference"
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "drop"
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", "the focus is seen"
        with page.expect_file_chooser() as waiting:
            page.keyboard.press(key)
        waiting.value.set_files(files(picture, "photo.png"))
        wait_for(page, "#best", "owl")
    order = []
    for _ in range(4):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert order == ["camera", "What can it recognize?", "show-all", "explain"]


def test_the_classes_are_listed_when_asked_for(page, stub):
    page.click("summary")
    wait_for(page, "#classes li >> nth=11", "class 8")
    assert not stub.requests and page.locator("#classes li").count() == 12


@pytest.mark.parametrize("names, text", [
    (["ants", "bees"], "Recognizes ants or bees"), (["a", "b", "c", "d", "e"], "Recognizes a, b, c, d or e"), (["alone"], "Recognizes alone"),
    (["a", "b", "c", "d", "e", "f"], "Recognizes a, b, c, d, e and 1 more"), ([HOSTILE, "😀" * 31], f"Recognizes {HOSTILE[:29]}… or {'😀' * 29}…")])
def test_the_first_classes_stand_under_the_title(page, stub, names, text):
    stub.answer = lambda request: {"classes": names}
    page.reload()
    page.locator("#kinds bdi").first.wait_for()
    assert page.inner_text("#kinds") == text and page.title() == "Image classifier"


def test_classes_that_come_late_are_named_after_the_first_answer(page, stub, picture):
    stub.answer = lambda request: problem(503, "Service Unavailable", "the model is not ready yet")
    page.reload()
    until(page, "performance.getEntriesByType('resource').some(one => one.name.endsWith('/classes'))")
    stub.answer = stub.usual
    give(page, picture, "photo.png")
    wait_for(page, "#kinds", "Recognizes owl, cat, dog, class 0, class 1 and 7 more")
    assert page.inner_text("#problem") == ""


def test_a_name_is_text_and_never_markup(page, stub, picture):
    name = "<img src=x onerror=alert(1)>.png"
    stub.answer = lambda request: (batch(request.names) | {"results": [{"filename": "", "predicted_class": HOSTILE, "confidence": 1}, {"filename": "", "error": HOSTILE}]}
                                   if request.path == "/predict_batch" else {"classes": [HOSTILE]} if request.path == "/classes" else
                                   prediction([(HOSTILE, 0.9)], heat_map=PIXEL, heat_map_text=HOSTILE, warnings=[HOSTILE]))
    page.reload()
    give(page, picture, name)
    page.click("summary")
    page.click("#explain")
    wait_for(page, "#heat-map figcaption", HOSTILE)
    assert page.inner_text("#preview-name") == name and page.inner_text("#best") == f"{HOSTILE}, 90.0 %" and shown(page, "#ranking .name") == [HOSTILE]
    wait_for(page, "#classes li", HOSTILE)
    give(page, picture, name, name)
    ended(page, "2 of 2 images")
    assert shown(page, "tbody th") == [name, name] and HOSTILE in page.inner_text("tbody tr:nth-child(2) td:last-child")
    stub.answer = lambda request: problem(422, HOSTILE, HOSTILE)
    give(page, picture, name)
    page.get_by_role("alert").filter(has_text=HOSTILE).wait_for()
    assert page.locator("img").count() == 2 and page.title() == "Image classifier"


def test_a_thousand_classes_and_long_names_fit_a_phone(page, stub, picture):
    ranked = [("a_very_long_name_without_a_space_" * 4, 0.5), *((f"class {number}", 0.5 / 999) for number in range(999))]
    stub.answer = lambda request: batch(request.names) if "batch" in request.path else prediction(ranked, below_threshold=True)
    page.set_viewport_size({"width": 400, "height": 800})
    give(page, picture, "long" * 50 + ".png")
    page.click("text=Show all 1,000 classes")
    assert page.locator("#ranking li").count() == 1000
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    give(page, picture, "long" * 50 + ".png", "odd.png", "IMG_20261129_bad.png")
    ended(page, "3 of 3 images")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    name, note = (page.locator(f"tbody tr:nth-child(3) {part}").bounding_box() for part in ("button", "td.error"))
    assert note["y"] >= name["y"] + name["height"] and note["width"] > 250, "the note stands under the name"
    assert page.get_by_role("cell").count() == 9 and page.get_by_role("columnheader", name="Note").count() == 1


def test_a_touch_screen_is_not_told_to_drop_images(page, window):
    assert page.inner_text("#drop").startswith("Drop images here") and "Choose or take" not in page.inner_text("#drop")
    context = page.context.browser.new_context(has_touch=True, is_mobile=True)
    phone = context.new_page()
    phone.goto(page.url)
    assert phone.inner_text("#drop") == "Choose or take images"
    context.close()


def test_the_reference_shows_the_whole_description(page, stub):
    page.goto(stub.url + "docs")
    page.locator("#schema-problem").wait_for()
    assert shown(page, ".contents a") == ["GET /health", "POST /predict", "Schemas"] and page.title() == "Image classifier: reference"
    text = page.inner_text("main")
    for part in ("top_k (optional)", "integer (≥ 1) or null", "boolean (default false)", "multipart/form-data", "The image.", "413", "What is wrong.", HOSTILE, "x-api-key",
                 "list of Share", "number (≥ 0, ≤ 1)", "The most probable class."):
        assert part in text, part
    assert page.locator("#post-predict").count() == 1 and page.locator("img").count() == 0
    page.click("text=list of Share >> a")
    assert page.url.endswith("#schema-share") and page.locator("#schema-share").is_visible()
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_the_reference_says_why_it_is_empty(page, stub):
    stub.answer = lambda request: problem(503, "Busy", "")
    page.goto(stub.url + "docs")
    page.get_by_role("status").filter(has_text="cannot be shown: error 503").wait_for()


# Colors, without a browser


def contrast(one: str, other: str) -> float:
    "WCAG's ratio of the relative luminances of two colors, 1 to 21."
    def luminance(color):
        parts = [int(color[i:i + 2], 16) / 255 for i in (1, 3, 5)]
        return sum(weight * (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4) for weight, p in zip((0.2126, 0.7152, 0.0722), parts))
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colors_have_contrast(scheme):
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    style = read_page("/page.css")[0].decode()
    colors = dict(re.findall(r"--([\w-]+): (#\w{6});", re.findall(r":root \{.*?\}", style, re.S)[scheme]))
    for text, background in [("text", "page"), ("text", "card"), ("muted", "page"), ("muted", "card"), ("accent", "page"), ("accent", "card"), ("on-accent", "accent"),
                             ("text", "note"), ("text", "bad"), ("bad-text", "bad"), ("bad-text", "card")]:
        assert contrast(colors[text], colors[background]) >= 4.5, (text, background)
    for control, background in [("edge", "page"), ("edge", "card"), ("edge", "bad"), ("accent", "track")]:
        assert contrast(colors[control], colors[background]) >= 3, (control, background)
