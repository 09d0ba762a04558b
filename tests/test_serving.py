"A server answers as the classifier does, refuses what it must in one line, stays alive under load, and ends in order."
import contextlib
import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from io import BytesIO
from pathlib import Path

import nbformat
import numpy as np
import pytest

for name, extra in (("fastapi", "serve"), ("uvicorn", "serve"), ("onnx", "export")):
    pytest.importorskip(name, reason=f"the extra {extra} is not installed")

import onnx
from hypothesis import given, settings, strategies as st
from literate import ROOT
from onnx import helper, numpy_helper
from PIL import Image
from pictures import chunk, drawn, exif_with, ihdr, png, saved, SIGNATURE, translucent
from servers import ask, form, get, live, process, Reply, wait_for
from test_hostile import hand_made, mutations
from torch import nn

from image_classifier.cli import main
from image_classifier.core import ArtifactError, ConfigError, DataError, write_manifest
from image_classifier.data import Preprocess
from image_classifier.inference import Classifier
from image_classifier.inference.onnx_model import ONNX_FILE, onnx_metadata
from image_classifier.models import Architecture, build_model, MODELS, register_model
from image_classifier.serving import client, load_service, running, ServerSettings
from image_classifier.serving.app import PATHS

CLASSES = ("cat", "<script>alert(1)</script>", "dog\n\"'")
KEY = "0123456789abcdef-secret"


def linear_graph(layer, notes):
    "Return ONNX's form of a linear layer on normalized pixels: tracing a network would take seconds, and tests/test_export.py does that."
    shift, scale, weight, bias = (numpy_helper.from_array(values, name) for name, values in (
        ("shift", np.float32(127.5)), ("scale", np.float32(1 / 51)), ("weight", layer.weight.detach().numpy()), ("bias", layer.bias.detach().numpy())))
    steps = [("Cast", ["pixels"], "floats", {"to": onnx.TensorProto.FLOAT}), ("Sub", ["floats", "shift"], "shifted", {}),
             ("Mul", ["shifted", "scale"], "inputs", {}), ("Flatten", ["inputs"], "features", {}),
             ("Gemm", ["features", "weight", "bias"], "logits", {"transB": 1}), ("Softmax", ["logits"], "probabilities", {"axis": 1})]
    named = [helper.make_tensor_value_info("pixels", onnx.TensorProto.UINT8, ["batch", 3, 8, 8]),
             helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["batch", 3])]
    nodes = [helper.make_node(kind, inputs, [output], **more) for kind, inputs, output, more in steps]
    graph = helper.make_graph(nodes, "linear", named[:1], named[1:], [shift, scale, weight, bias])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, notes)
    return model.SerializeToString()


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    "The folder of an exported classifier."
    register_model("served_linear")(lambda architecture: nn.Sequential(nn.Flatten(), nn.Linear(192, architecture.classes)))
    network = build_model(Architecture("served_linear", channels=3, classes=3, size=8), seed=1)
    classifier = Classifier(network, Preprocess(8, 3, "crop", (0.5,) * 3, (0.2,) * 3), CLASSES, threshold=0.4)
    folder = classifier.save(tmp_path_factory.mktemp("served") / "classifier")
    (folder / ONNX_FILE).write_bytes(linear_graph(network[1], onnx_metadata(folder)))
    write_manifest(folder)
    yield folder
    del MODELS["served_linear"]


def started(artifact, **limits):
    service = load_service(artifact, ServerSettings(**{"access_log": False} | limits))
    service.start()
    return service


@pytest.fixture(scope="module")
def service(artifact):
    "A service that is ready."
    service = started(artifact)
    yield service
    service.engine.close()


IMAGE = saved(drawn())


# The same answers


def odd_images():
    "Images as phones, scanners and editors write them, and some that cannot be read."
    gray16 = saved(Image.fromarray(np.arange(0, 65536, 16, np.uint16).reshape(64, 64)))
    frames = [drawn(), drawn().rotate(90)]
    yield from (saved(drawn(), "JPEG", exif=exif_with(code)) for code in range(1, 9))
    yield from (saved(translucent()), saved(drawn().convert("CMYK"), "JPEG"), saved(drawn().convert("P")), gray16, saved(drawn().convert("L")),
                saved(drawn().convert("1")), saved(drawn(), "WEBP"), saved(drawn(), "BMP"), saved(translucent(), "WEBP"),
                saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]), saved(frames[0], save_all=True, append_images=frames[1:]))
    yield from (data for data, _ in hand_made())
    yield from mutations()


def test_a_server_predicts_what_the_classifier_predicts(artifact, service):
    "And it refuses the same 300 odd images, with the same words."
    classifier, count = Classifier.load(artifact), 0
    for data in odd_images():
        if not data or len(data) > service.settings.max_bytes:
            continue
        count, reply = count + 1, ask(service, "POST", "/predict", data, "image/png")
        try:
            expected = classifier.predict(data)
        except DataError as error:
            assert reply.status in (413, 415, 422) and reply.json()["reason"] == error.what
            continue
        found = reply.json()
        assert reply.status == 200 and found["predicted_class"] == expected.predicted_class
        for one in found["all_probabilities"]:
            assert one["probability"] == pytest.approx(expected.all_probabilities[one["class"]], abs=1e-5)
    assert count >= 300


def test_a_prediction_does_not_depend_on_its_neighbors(service):
    "Alone, 1 to 32 at a time, beside hostile ones, as body or as form."
    alone = ask(service, "POST", "/predict", IMAGE, "image/png").json()
    assert ask(service, "POST", "/predict", *form(("a.png", IMAGE))).json()["all_probabilities"] == alone["all_probabilities"]
    bad, other = b"\x89PNG\r\n\x1a\n", saved(drawn().rotate(180))
    for count in range(1, 33):
        files = [("x", [IMAGE, bad, other][i % 3]) for i in range(count)]
        results = ask(service, "POST", "/predict_batch", *form(*files, field="files")).json()["results"]
        assert [one.get("predicted_class") for one in results[::3]] == [alone["predicted_class"]] * len(results[::3])
        assert all(one["confidence"] == pytest.approx(alone["confidence"], abs=1e-6) for one in results[::3])
        assert all("error" in one and "predicted_class" not in one for one in results[1::3])


def test_one_bad_image_of_eight_leaves_seven_answers(service):
    files = [(f"{i}.png", IMAGE if i != 3 else b"GIF89a") for i in range(8)]
    results = ask(service, "POST", "/predict_batch", *form(*files, field="files")).json()["results"]
    assert [one["filename"] for one in results] == [f"{i}.png" for i in range(8)]
    assert [i for i, one in enumerate(results) if "error" in one] == [3] and "GIF" in results[3]["error"]


def test_low_confidence_and_a_second_frame_are_mentioned(artifact):
    service = started(artifact)
    service.model.threshold = 1.0
    frames = saved(drawn(), "WEBP", save_all=True, append_images=[Image.new("RGB", (40, 24), (5 * i, 0, 0)) for i in range(49)])
    found = ask(service, "POST", "/predict", frames, "image/webp").json()
    assert found["below_threshold"] is True and found["warnings"] == ["first of 50 frames"]
    assert "out_of_distribution" not in found, "this classifier has no detector"
    service.engine.close()


def test_a_heat_map_is_a_picture_with_words(service):
    found = ask(service, "POST", "/predict?explain=true&top_k=1", IMAGE, "image/png").json()
    assert found["heat_map"].startswith("data:image/png;base64,iVBOR") and "evidence for" in found["heat_map_text"]
    assert len(found["all_probabilities"]) == 1


def test_a_server_never_imports_torch_and_leaves_nothing_at_home(artifact, tmp_path):
    code = ("import sys, io; sys.path.insert(0, sys.argv[2]); from image_classifier.serving import load_service; from servers import ask; from PIL import Image\n"
            "service = load_service(sys.argv[1]); service.start(); Image.new('RGB', (9, 9)).save(file := io.BytesIO(), 'png')\n"
            "assert ask(service, 'POST', '/predict?explain=true', file.getvalue(), 'image/png').status == 200\n"
            "assert ask(service, 'GET', '/metrics').status == 200\n"
            "print(*sorted({'torch', 'torchvision', 'onnx', 'sklearn', 'matplotlib', 'scipy', 'pandas'} & set(sys.modules)))")
    home = tmp_path / "home"
    home.mkdir()
    plain = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "CI", "TMPDIR") and not name.startswith("XDG_")}
    done = subprocess.run([sys.executable, "-c", code, str(artifact), str(ROOT / "tests")], capture_output=True, text=True, cwd=ROOT, env=plain | {"HOME": str(home)})
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
    assert not list(home.rglob("*")), "ONNX Runtime keeps reports of its use in the cache folder, unless it is told not to"


# Requests that are refused


def problem(reply, status, words):
    "Check an answer that refuses."
    found = reply.json()
    assert reply.status == found["status"] == status and words in found["detail"], found
    assert reply.headers["content-type"] == "application/problem+json" and found["request_id"] == reply.headers["x-request-id"]
    assert found["type"] == "about:blank" and found["title"]
    assert str(ROOT) not in reply.content.decode() and "Traceback" not in reply.content.decode()


def _batch(count):
    return form(*[("x", IMAGE)] * count, field="files")


REFUSED = {
    "no body": ("/predict", b"", "", 422, "field 'file' is required"),
    "empty form": ("/predict", b"--x--\r\n", "multipart/form-data; boundary=x", 422, "field 'file' is required"),
    "json": ("/predict", b'{"image": 1}', "application/json", 415, "send multipart/form-data"),
    "json bomb": ("/predict", b"[" * 100_000, "application/json", 415, "send multipart/form-data"),
    "curl -d": ("/predict", b"x", "application/x-www-form-urlencoded", 415, "or the image itself"),
    "unknown field": ("/predict", *form(("photo", "a.png", IMAGE)), 422, "unknown field photo"),
    "text": ("/predict", b"hello", "image/png", 415, "not an image. allowed are png, jpeg, webp, bmp"),
    "truncated": ("/predict", saved(drawn(), "JPEG")[:300], "image/jpeg", 422, "truncated image"),
    "empty file": ("/predict", *form(("a.png", b"")), 422, "empty file"),
    "81 megapixels": ("/predict", png(9000, 9000), "image/png", 413, "81 Mpx exceeds the classifier's limit of 50 Mpx"),
    "EPS": ("/predict", b"%!PS-Adobe-3.0", "image/png", 415, "content is EPS"),
    "SVG": ("/predict", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/png", 415, "content is SVG"),
    "PDF": ("/predict", b"%PDF-1.7", "image/png", 415, "content is PDF"),
    "no boundary": ("/predict", b"x", "multipart/form-data", 400, "malformed multipart"),
    "wrong boundary": ("/predict", form(("a", IMAGE))[0], "multipart/form-data; boundary=other", 400, "malformed multipart"),
    "10,000 parts": ("/predict", *form(*[("x", b"1")] * 10_000), 422, "one image per request"),
    "long part header": ("/predict", b"--x\r\n" + b"a" * (1 << 20) + b": 1\r\n\r\n\r\n--x--", "multipart/form-data; boundary=x", 400, "malformed multipart"),
    "top_k=0": ("/predict?top_k=0", IMAGE, "image/png", 422, "top_k must be 1..3"),
    "top_k=-1": ("/predict?top_k=-1", IMAGE, "image/png", 422, "top_k must be 1..3"),
    "top_k=1e9": ("/predict?top_k=1e9", IMAGE, "image/png", 422, "top_k must be 1..3"),
    "top_k=abc": ("/predict?top_k=abc", IMAGE, "image/png", 422, "top_k must be 1..3"),
    "unknown option": ("/predict?topk=1", IMAGE, "image/png", 422, "unknown option topk"),
    "33 images": ("/predict_batch", *_batch(33), 413, "at most 32 images per request"),
    "url": ("/predict", *form(("url", "", b"http://169.254.169.254/")), 422, "URLs are not fetched"),
    "one of several": ("/predict_batch", *form(("file", "a", IMAGE)), 422, "'files' here"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_gets_one_clear_problem(service, case):
    path, body, kind, status, words = REFUSED[case]
    problem(ask(service, "POST", path, body, kind), status, words)


def black(side):
    "A PNG of side x side black pixels, made without them: a compressed block of 20 rows, again and again, and the checksum of zeros."
    rows = side * (3 * side + 1)
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(bytes(rows // side * 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = b"\x78\xda" + block * (side // 20) + b"\x03\x00" + (rows % 65521 << 16 | 1).to_bytes(4, "big")
    return SIGNATURE + ihdr(side, side) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def test_images_of_400_megapixels_cost_no_memory(artifact):
    "A complete one, one whose header lies about a short file, and one with far more pixels than its header admits."
    assert Image.open(BytesIO(black(200))).convert("L").getextrema() == (0, 0)
    whole = black(20_000)
    small = whole.replace(ihdr(20_000, 20_000), ihdr(64, 64))
    cases = {"whole": (whole, 413), "lying": (png(20_000, 20_000, bytes(100)), 413), "small": (small, 200)}
    with process(artifact) as (server, port, lines):
        def peak():
            return next(int(line.split()[1]) for line in Path(f"/proc/{server.pid}/status").read_text().splitlines() if line.startswith("VmHWM")) / 1000
        assert get(port, "/predict", "POST", IMAGE, **{"content-type": "image/png"}).status == 200
        before = peak()
        for name, (data, status) in cases.items():
            for body, kind in ((data, "image/png"), form((name, data))):
                reply = get(port, "/predict", "POST", body, **{"content-type": kind})
                assert reply.status == status, (name, reply.content)
        problem(get(port, "/predict", "POST", whole, **{"content-type": "image/png"}), 413, "400 Mpx exceeds the classifier's limit of 50 Mpx")
        assert peak() - before <= 64


def test_unknown_paths_and_methods_are_refused_without_repeating_them(service):
    assert ask(service, "POST", "/predict/").status == 404, "no redirect, which would repeat the header Host"
    reply = ask(service, "GET", "/wp-admin/<script>")
    problem(reply, 404, "the API is described at /docs")
    assert b"script" not in reply.content
    reply = ask(service, "GET", "/predict")
    problem(reply, 405, "method not allowed")
    assert reply.headers["allow"] == "POST"


def test_sizes_at_the_limit_are_accepted_and_one_byte_more_is_not(artifact):
    "Whatever length is declared, and before much more than the limit is read."
    service = started(artifact, max_bytes=5000)
    for extra, status in ((-1, 200), (0, 200), (1, 413)):
        data = IMAGE + bytes(5000 + extra - len(IMAGE))
        for reply in (ask(service, "POST", "/predict", data, "image/png", content_length=str(len(data))), ask(service, "POST", "/predict", data, "image/png"),
                      ask(service, "POST", "/predict", chunks=[data[:10], data[10:]], kind="image/png"), ask(service, "POST", "/predict", *form(("a", data)))):
            assert reply.status == status
    problem(reply, 413, "limit is 5000 bytes")
    problem(ask(service, "POST", "/predict", IMAGE, "image/png", content_length="99999999999"), 413, "limit is 5000 bytes")
    service.engine.close()


def test_names_from_outside_are_text(service):
    "A file name is no path, and neither it nor a class can become a header, a log line or markup."
    name = "../../x<script>.png"
    reply = ask(service, "POST", "/predict_batch", *form((name, IMAGE), field="files"))
    assert reply.json()["results"][0]["filename"] == name and reply.headers["content-type"] == "application/json"
    assert ask(service, "GET", "/classes").json()["classes"] == list(CLASSES)
    for name in ("a b", "x" * 65, "é", "{}"):
        assert ask(service, "GET", "/livez", x_request_id=name).headers["x-request-id"] != name
    assert ask(service, "GET", "/livez", x_request_id="my-id.7").headers["x-request-id"] == "my-id.7"


def test_answers_forbid_sniffing_framing_and_other_origins(service):
    for path in ("/", "/health", "/nothing", "/docs"):
        headers = ask(service, "GET", path, origin="http://evil.example").headers
        assert headers["x-content-type-options"] == "nosniff" and "frame-ancestors 'none'" in headers["content-security-policy"]
        assert not [name for name in headers if name.startswith("access-control")]


AUTHORIZATIONS = [({}, 401), ({"x_api_key": "wrong"}, 401), ({"x_api_key": KEY[:-1]}, 401), ({"x_api_key": KEY + "x"}, 401), ({"x_api_key": KEY.upper()}, 401),
                  ({"x_api_key": KEY}, 200), ({"authorization": f"Bearer {KEY}"}, 200), ({"authorization": f"bearer {KEY}"}, 200), ({"authorization": f"Basic {KEY}"}, 401),
                  ({"authorization": f"Bearer {KEY}", "x_api_key": KEY}, 401), ({"host": "x/livez"}, 401), ({"x_api_key": ""}, 401)]


@pytest.mark.parametrize("headers, status", AUTHORIZATIONS)
def test_a_key_is_needed_and_compared_exactly(artifact, headers, status, capfd):
    service = load_service(artifact, ServerSettings(api_key=KEY))
    assert ask(service, "GET", "/classes", **headers).status == status
    reply = ask(service, "GET", "/metrics", **headers)
    assert reply.status == status and (status == 200 or reply.headers["www-authenticate"] == "Bearer")
    assert ask(service, "GET", "/livez").status == ask(service, "GET", "/health").status == 200
    assert KEY not in "".join(capfd.readouterr())


# What the API description promises


def test_answers_are_as_described(service):
    jsonschema = pytest.importorskip("jsonschema")
    described = ask(service, "GET", "/openapi.json").json()

    def check(path, method, reply):
        responses = described["paths"][path][method]["responses"]
        assert str(reply.status) in responses, f"{path} answers {reply.status}, which is not described"
        kind = reply.headers["content-type"].partition(";")[0]
        schema = responses[str(reply.status)]["content"][kind]["schema"]
        jsonschema.validate(reply.json(), schema | {"components": described["components"]})
    check("/predict", "post", ask(service, "POST", "/predict?explain=1", IMAGE, "image/png"))
    check("/predict_batch", "post", ask(service, "POST", "/predict_batch", *_batch(2)))
    check("/health", "get", ask(service, "GET", "/health"))
    check("/classes", "get", ask(service, "GET", "/classes"))
    for path, body, kind, *_ in REFUSED.values():
        check(path.partition("?")[0], "post", ask(service, "POST", path, body, kind))


def test_the_description_says_where_a_key_is_needed(artifact, service):
    def secured(service):
        described = ask(service, "GET", "/openapi.json").json()
        return {path for path, operations in described["paths"].items() for one in operations.values() if "security" in one}
    keyed = load_service(artifact, ServerSettings(api_key=KEY, access_log=False))
    assert secured(service) == set() and secured(keyed) == {"/predict", "/predict_batch", "/classes", "/metrics"}
    assert all((ask(keyed, "GET", path).status == 401) == (path in secured(keyed)) for path in PATHS)


@settings(max_examples=150, deadline=None)
@given(path=st.sampled_from(["/predict", "/predict_batch"]), query=st.text(st.characters(max_codepoint=127), max_size=30), body=st.binary(max_size=300),
       kind=st.one_of(st.sampled_from(["image/png", "multipart/form-data; boundary=x1", "multipart/form-data; boundary=\"", "application/json", ""]),
                      st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)), framed=st.booleans())
def test_no_request_is_an_internal_error(service, path, query, body, kind, framed):
    if framed:
        body = form(("files" if path.endswith("batch") else "file", "a", body))[0]
    reply = ask(service, "POST", f"{path}?{query}", body, kind)
    assert reply.status in (200, 400, 413, 415, 422) and "request_id" in reply.json()


def test_an_internal_error_is_logged_with_its_id_and_not_shown(artifact, capfd):
    service = started(artifact)
    service.model.predict_pixels = lambda images: 1 / 0
    reply = ask(service, "POST", "/predict", IMAGE, "image/png")
    problem(reply, 500, "internal error")
    line = next(json.loads(line) for line in capfd.readouterr().err.splitlines() if "ZeroDivisionError" in line)
    assert line["request_id"] == reply.json()["request_id"] and service.engine.inside == 0
    service.engine.close()


# Load


def test_an_overloaded_server_refuses_at_once_and_says_when_to_come_back(artifact):
    "Every request gets an answer, 200 or 503, and afterwards the queue is empty."
    service = load_service(artifact, ServerSettings(queue=4, batch=1, access_log=False))
    predict = service.model.predict_pixels
    service.model.predict_pixels = lambda images: (time.sleep(0.02), predict(images))[1]
    with live(service) as port, ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda _: get(port, "/predict", "POST", IMAGE, **{"content-type": "image/png"}), range(64)))
        health = [get(port, path).status for path in ("/livez", "/readyz")]
    counts = {status: sum(reply.status == status for reply in replies) for status in (200, 503)}
    assert sum(counts.values()) == 64 and min(counts.values()) > 0 and health == [200, 200]
    assert all(int(reply.headers["retry-after"]) >= 1 for reply in replies if reply.status == 503)
    assert service.engine.inside == 0


def test_an_early_refusal_is_like_a_late_one_and_keeps_the_connection(artifact):
    service = load_service(artifact, ServerSettings(queue=1, api_key="a key of 16 signs", access_log=False))
    late = ask(service, "POST", "/predict", IMAGE, content_type="image/png", x_api_key="a key of 16 signs")
    with live(service) as port:
        service.engine.inside = 1
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        def send(path, **headers):
            connection.request("POST", path, IMAGE * 50, {"content-type": "image/png", **headers})
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.headers), answer.read())
        key = {"x-api-key": "a key of 16 signs", "x-request-id": "mine"}
        busy, nobody, health = send("/predict?top_k=1", **key), send("/predict"), get(port, "/health")
        service.engine.inside = 0
        after = send("/predict_batch", **key)
        service.engine.inside = 1
        closed = send("/predict", connection="close", **key)
        service.engine.inside = 0
        connection.close()
    problem(busy, 503, "the server is overloaded: 1 image in its queue")
    assert busy.json()["request_id"] == busy.headers["x-request-id"] == "mine" and busy.headers["retry-after"] == "1"
    assert {name.lower() for name in busy.headers} == {name.lower() for name in late.headers} | {"date", "server"}
    problem(nobody, 401, "send the API key")
    assert health.status == 200 and after.status == 415 and closed.status == 503 and closed.headers["connection"] == "close"
    counted = service.metrics.text(0)[0].decode()
    assert 'requests_total{path="/predict",status="503"} 3.0' in counted.replace("image_classifier_", "")


def test_a_large_upload_gets_its_refusal_over_a_connection_that_stays(artifact):
    service = load_service(artifact, ServerSettings(max_bytes=100_000, queue=4, access_log=False))
    with live(service) as port:
        connection, statuses = http.client.HTTPConnection("127.0.0.1", port, timeout=30), []
        for path, body, kind in (("/predict", bytes(20_000_000), "image/png"), ("/predict_batch", bytes(20_000_000), "image/png"),
                                 ("/predict_batch", *form(*[("a.png", IMAGE)] * 5, field="files")), ("/predict", IMAGE, "image/png")):
            connection.request("POST", path, body, {"content-type": kind})
            answer = connection.getresponse()
            statuses.append((answer.status, "connection" in answer.headers, answer.read() and service.budget.used))
        connection.close()
    assert statuses == [(413, False, 0), (415, False, 0), (413, False, 0), (200, False, 0)]  # the third: more images than the queue takes


def test_a_full_disk_of_the_log_and_bytes_that_are_no_http_change_no_answer(artifact, monkeypatch):
    class Full:
        def write(self, text):
            raise OSError(28, "no space left on device")
    service, replies = load_service(artifact, ServerSettings()), []
    with live(service) as port:
        monkeypatch.setattr(sys, "stderr", Full())
        service.engine.inside = 10**6
        replies.append(get(port, "/predict", "POST", IMAGE, **{"content-type": "image/png"}).status)
        service.engine.inside = 0
        for data in (b"hello\r\n\r\n", b"POST /predict HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: 3\r\n\r\nabc",
                     b"GET /livez HTTP/1.1\r\nconnection: close, upgrade\r\nupgrade: h2c\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as one:
                one.sendall(data)
                answer = b"".join(iter(lambda: one.recv(4000), b""))
                replies.append((answer.split()[1], b"application/problem+json" in answer, b"--http1.1" in answer))
        monkeypatch.undo()
    assert replies == [503, (b"400", True, False), (b"400", True, True), (b"200", False, False)]


@pytest.mark.parametrize("content", [b"[" * 200_000, b'{"all_probabilities": [], "predicted_class": "cat", "confidence": 0.5}',
                                     b'{"all_probabilities": [{"class": "cat", "probability": NaN}], "predicted_class": "cat", "confidence": 0.5}',
                                     b'{"all_probabilities": [{"class": "cat", "probability": 1}], "predicted_class": "cat", "confidence": "1"}',
                                     b'{"all_probabilities": [{"class": "cow", "probability": 1}], "predicted_class": "cow", "confidence": 1}'])
def test_a_client_believes_no_odd_answer(content, monkeypatch):
    health = {"threshold": 0.5, "limits": {"max_bytes": 100, "max_pixels": 100, "formats": ["png"]}}
    monkeypatch.setattr(client.RemoteClassifier, "_get", lambda self, path: health if path == "/health" else {"classes": ["cat", "dog"]})
    remote = client.RemoteClassifier("http://127.0.0.1:9")
    answer = SimpleNamespace(status=200, headers={}, read=lambda limit: content)
    monkeypatch.setattr(remote._connection, "request", lambda *request: None)
    monkeypatch.setattr(remote._connection, "getresponse", lambda: answer)
    with pytest.raises((ArtifactError, ConfigError), match="not an answer of this version|does not answer in JSON"):
        remote.predict_file(b"1")
    with pytest.raises(DataError, match="limit is 100 bytes"):
        remote.predict_file(bytes(101))


def test_a_deadline_is_kept_and_nothing_is_computed_after_it(artifact):
    service, computed, go = load_service(artifact, ServerSettings(timeout=2, batch=1, access_log=False)), [], threading.Event()
    predict = service.model.predict_pixels
    with live(service) as port, ThreadPoolExecutor(8) as pool:
        service.model.predict_pixels = lambda images: (computed.append(len(images)), go.wait(60), predict(images))[2]
        replies = list(pool.map(lambda _: get(port, "/predict", "POST", IMAGE, **{"content-type": "image/png"}), range(8)))
        assert [reply.status for reply in replies] == [504] * 8  # while the first one is still computed
        go.set()
        wait_for(lambda: not service.engine.inside)
    assert computed == [1]


def test_a_client_that_has_gone_costs_nothing_more(artifact):
    service, computed, go = load_service(artifact, ServerSettings(batch=1, timeout=60, access_log=False)), [], threading.Event()
    predict, jobs = service.model.predict_pixels, service.engine._jobs
    head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: %d\r\n\r\n" % len(IMAGE)
    with live(service) as port:
        service.model.predict_pixels = lambda images: (computed.append(len(images)), go.wait(60), predict(images))[2]
        sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        for one in sockets:
            one.sendall(head + IMAGE)
        wait_for(lambda: service.engine.inside == 20 and len(jobs) == 19)
        wait_for(lambda: service.metrics.registry.get_sample_value("image_classifier_inside") == 20)
        waiting = [job.future for job in jobs]
        for one in sockets:
            one.close()
        wait_for(lambda: all(future.done() for future in waiting))
        go.set()
        wait_for(lambda: not service.engine.inside)
    assert computed == [1]


def test_slow_and_endless_headers_are_cut_off(artifact, monkeypatch):
    monkeypatch.setattr(running, "_HEAD_SECONDS", 2)
    service = load_service(artifact, ServerSettings(timeout=2, access_log=False))
    with live(service) as port:
        slow, endless, body = (socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(3))
        slow.sendall(b"POST /predict HTTP/1.1\r\nhost:")
        body.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: 1000\r\n\r\nab")
        endless.sendall(b"GET /livez HTTP/1.1\r\nx: " + b"a" * 200_000)
        assert slow.recv(1000) == b"" and endless.recv(1000).startswith(b"HTTP/1.1 431")
        assert b"408" in body.recv(4000).splitlines()[0]
        assert get(port, "/livez").status == 200
        for one in (slow, endless, body):
            one.close()


# The command


def test_the_command_answers_drains_and_ends_with_zero(artifact):
    "And every line of its log is JSON, whatever is sent to it."
    with process(artifact) as (server, port, lines):
        page, reply = get(port, "/"), get(port, "/predict", "POST", IMAGE, **{"content-type": "image/png"})
        assert page.status == 200 and reply.status == 200
        head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: %d\r\n\r\n" % len(IMAGE)
        running = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(50)]
        for one in running:
            one.sendall(head + IMAGE[:10])
        with socket.create_connection(("127.0.0.1", port)) as other:
            other.sendall(b"\x16\x03\x01 TLS, or anything else\r\n\r\n")
            assert other.recv(100).startswith(b"HTTP/1.1 400")
        malformed = form(("a", IMAGE))[0].replace(b"form-data", b"form\rdata")
        assert get(port, "/predict", "POST", malformed, **{"content-type": "multipart/form-data; boundary=x1"}).status == 400
        assert get(port, "/livez").status == 200  # accepted after the others
        server.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        for one in running:
            one.sendall(IMAGE[10:])
        assert [one.recv(4000).split()[1] for one in running] == [b"200"] * 50
        assert server.wait(20) == 0
        with pytest.raises(OSError):
            get(port, "/livez")
        events = [json.loads(line)["event"] for line in (*lines, *server.stderr)]
        assert events[:2] == ["start", "ready"] and events[-1] == "end" and set(events[2:-1]) == {"request", "warning"}


def test_a_server_that_says_it_starts_can_be_connected_to(artifact, monkeypatch):
    connected = []

    def run(server, sockets):
        with socket.create_connection(sockets[0].getsockname(), timeout=5) as one:
            connected.append(one.getpeername())
    monkeypatch.setattr(running._Server, "run", run)
    running.serve(artifact, port=0)
    assert connected


def test_a_worker_that_dies_is_replaced(artifact):
    with process(artifact, "--workers", 2) as (server, port, lines):
        found = subprocess.run(["pgrep", "-P", str(server.pid), "-f", "spawn_main"], capture_output=True, text=True).stdout.split()
        assert len(found) == 2
        place = dict(line.partition("=")[::2] for line in Path(f"/proc/{found[0]}/environ").read_text().split("\0"))["PROMETHEUS_MULTIPROC_DIR"]
        gauges = [Path(place, f"gauge_livesum_{number}.db") for number in found]
        wait_for(lambda: all(file.exists() for file in gauges))
        os.kill(int(found[0]), signal.SIGKILL)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            now = subprocess.run(["pgrep", "-P", str(server.pid), "-f", "spawn_main"], capture_output=True, text=True).stdout.split()
            if len(now) == 2 and found[0] not in now:
                break
            time.sleep(0.1)
        assert len(now) == 2
        wait_for(lambda: get(port, "/readyz").status == 200)  # the new process says 503 until it has loaded the network
        assert b"image_classifier_requests_total" in get(port, "/metrics").content
        wait_for(lambda: not gauges[0].exists())  # or the images in a process that died would be counted for ever
        assert gauges[1].exists()
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0


def test_a_command_that_cannot_serve_says_why(artifact, tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["serve", str(artifact), "--port", str(taken.getsockname()[1])]) == 2
    assert "cannot listen: address already in use" in capsys.readouterr().err
    classifier = Classifier.load(artifact)
    classifier.save(tmp_path / "plain")
    assert main(["serve", str(tmp_path / "plain"), "--port", "0"]) == 4
    assert "was not exported" in capsys.readouterr().err
    assert main(["serve", str(tmp_path / "nothing"), "--port", "0"]) == 4
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    assert main(["serve", str(tmp_path / "bad.onnx"), "--port", "0"]) == 4
    assert main(["serve", str(artifact), "--api-key-env", "NO_SUCH_VARIABLE"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_probes_are_answered_before_the_application_sees_them(artifact):
    service = load_service(artifact, ServerSettings(api_key=KEY))
    with live(service) as port:
        for path in ("/livez", "/readyz"):
            early = get(port, path)
            assert (early.status, early.content, early.headers["content-type"]) == (200, b"ok\n", "text/plain; charset=utf-8")
            within = ask(service, "GET", path)  # without a connection
            own = {"date", "server", "x-request-id"}
            assert {name: value for name, value in early.headers.items() if name not in own} == \
                   {name: value for name, value in within.headers.items() if name not in own}
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for path in ("/livez", "/readyz", "/"):
            connection.request("HEAD", path)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, b"") and int(answer.headers["content-length"]) > 0
        service.ready = False
        connection.request("HEAD", "/readyz")
        answer = connection.getresponse()
        assert (answer.status, answer.headers["retry-after"], answer.read()) == (503, "1", b"")
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        assert answer.status == 503 and json.loads(answer.read())["request_id"] == answer.headers["x-request-id"]
        connection.request("POST", "/livez", b"")
        assert connection.getresponse().status == 405
        connection.close()
    counted = [line for line in service.metrics.text(0)[0].decode().splitlines() if "/readyz" in line and "requests_total" in line]
    assert sorted(line[-3:] for line in counted) == ["2.0", "3.0"], counted


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_requests_that_the_pages_show_are_answered(artifact, tmp_path):
    pages = [ROOT / "README.md", ROOT / "nbs" / "tutorials" / "serving.ipynb", ROOT / "nbs" / "howto" / "containers.ipynb"]
    texts = [page.read_text(encoding="utf-8") if page.suffix == ".md" else "".join(f"{cell.source}\n" for cell in nbformat.read(page, 4).cells) for page in pages]
    lines = {line for text in texts for line in text.splitlines() if line.startswith("curl ") and ":8000/" in line}
    assert len(lines) >= 4
    for name in ("cat.jpg", "a.jpg", "b.jpg", "photo.jpg", "seven.png"):
        drawn().convert("RGB").save(tmp_path / name)
    with live(load_service(artifact, ServerSettings(access_log=False))) as port:
        for line in lines:
            words = shlex.split(line.replace(":8000/", f":{port}/"), comments=True)
            done = subprocess.run([*words, "--silent", "--noproxy", "*", "--fail-with-body"], cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0 and '"predicted_class":' in done.stdout, (line, done.stdout, done.stderr)


def test_a_client_prints_what_a_local_prediction_prints(artifact, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(IMAGE)
    (tmp_path / "bad.png").write_bytes(b"hello")
    files = [str(tmp_path / name) for name in ("a.png", "bad.png", "missing.png")]

    def printed(*words):
        code = main(["predict", *words, *files, "--json"])
        shown = capsys.readouterr()
        log = "{"  # of the server in this process
        return code, json.loads(shown.out), [line for line in shown.err.splitlines() if not line.startswith(log)]
    local = printed(str(artifact))
    with live(load_service(artifact, ServerSettings(access_log=False))) as port:
        remote = printed("--server", f"http://127.0.0.1:{port}")
        assert main(["predict", "--server", f"http://127.0.0.1:{port}", str(artifact), files[0]]) == 2
        assert "a classifier, not an image" in capsys.readouterr().err
    assert (local[0], local[2]) == (remote[0], remote[2]) and local[0] == 3
    assert local[1]["errors"] == remote[1]["errors"]
    for one, two in zip(local[1]["predictions"], remote[1]["predictions"], strict=True):
        assert one["predicted_class"] == two["predicted_class"] and one["below_threshold"] == two["below_threshold"]
        assert one["confidence"] == pytest.approx(two["confidence"], abs=1e-5)
    exported = printed(str(artifact / ONNX_FILE))
    assert [one["predicted_class"] for one in exported[1]["predictions"]] == [one["predicted_class"] for one in local[1]["predictions"]]
    assert exported[1]["errors"] == local[1]["errors"]
    assert main(["predict", "--server", f"http://127.0.0.1:{port}", files[0]]) == 2
    assert "cannot reach the server: connection refused" in capsys.readouterr().err


def test_a_classifier_that_changes_while_it_is_served_ends_the_server_when_a_process_must_start_again(artifact, tmp_path):
    own = tmp_path / "classifier"
    shutil.copytree(artifact, own)
    with process(own, "--workers", 2) as (server, port, lines):
        found = subprocess.run(["pgrep", "-P", str(server.pid), "-f", "spawn_main"], capture_output=True, text=True).stdout.split()
        with open(own / "model.onnx", "ab") as file:
            file.write(b"x")
        with contextlib.suppress(ProcessLookupError):  # the second one may have started late, and ended the server already
            os.kill(int(found[0]), signal.SIGKILL)
        assert server.wait(60) == 4


def test_processes_end_with_their_parent(artifact):
    with process(artifact, "--workers", 2) as (server, port, lines):
        found = subprocess.run(["pgrep", "-P", str(server.pid), "-f", "spawn_main"], capture_output=True, text=True).stdout.split()
        server.kill()
        server.wait()
        wait_for(lambda: not any(is_running(int(number)) for number in found), 60)


def is_running(process):
    "Whether a process has not ended; one that nobody has waited for has."
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
