"A server in a thread or a process of its own, and requests to it, in process or over a socket."
import asyncio
import contextlib
import functools
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time

import uvicorn

from image_classifier.serving import bind, create_app
from image_classifier.serving.running import _Server, BoundedProtocol


class Reply:
    "Status, headers and content of an answer."
    def __init__(self, status, headers, content):
        self.status, self.headers, self.content = status, headers, content

    def json(self):
        return json.loads(self.content)


def form(*parts, field="file", boundary=b"x1"):
    "Body and content type of a form with these (file name, content) or (field, file name, content)."
    named = [part if len(part) == 3 else (field, *part) for part in parts]
    lines = [b'--%b\r\nContent-Disposition: form-data; name="%b"; filename="%b"\r\n\r\n%b\r\n' % (boundary, name.encode(), file.encode(), data)
             for name, file, data in named]
    return b"".join(lines) + b"--" + boundary + b"--\r\n", f"multipart/form-data; boundary={boundary.decode()}"


application = functools.cache(create_app)


def ask(service, method, path, body=b"", kind="", chunks=None, **headers):
    "Send a request to the application without a network, and return the reply."
    path, _, query = path.partition("?")
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()] + ([(b"content-type", kind.encode())] if kind else [])
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(),
             "query_string": query.encode(), "headers": sent, "scheme": "http", "server": ("test", 80), "client": ("test", 1), "root_path": "", "state": {}}
    parts = [body] if chunks is None else list(chunks)
    messages = [{"type": "http.request", "body": part, "more_body": i + 1 < len(parts)} for i, part in enumerate(parts)]
    found = []

    async def receive():
        return messages.pop(0) if messages else await asyncio.sleep(60)

    async def send(message):
        found.append(message)
    asyncio.run(application(service)(scope, receive, send))
    return Reply(found[0]["status"], {name.decode(): value.decode() for name, value in found[0]["headers"]}, b"".join(one.get("body", b"") for one in found[1:]))


@contextlib.contextmanager
def live(service, **options):
    "Answer with a service at a port, in a thread, and yield the port."
    with bind("127.0.0.1", 0) as listener:
        server = _Server(uvicorn.Config(create_app(service), http=BoundedProtocol, ws="none", log_level="critical", **options))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        wait_for(lambda: server.started and service.ready)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def wait_for(condition, seconds=30):
    "Wait until a condition holds."
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited for too long"
        time.sleep(0.01)


def get(port, path, method="GET", body=None, **headers):
    "Send a request over a connection of its own."
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return Reply(answer.status, dict(answer.headers), answer.read())
    finally:
        connection.close()


@contextlib.contextmanager
def process(*words, port=0):
    "Run `ic serve` and yield the process and its port."
    command = [sys.executable, "-m", "image_classifier.cli", "serve", *map(str, words), "--port", str(port)]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    late = threading.Timer(120, lambda: os.killpg(started.pid, signal.SIGKILL))
    late.start()
    try:
        lines = []
        for line in started.stderr:
            lines.append(line)
            if '"event": "ready"' in line:
                break
        address = next((json.loads(line)["address"] for line in lines if '"event": "start"' in line), ":0")
        yield started, int(address.rpartition(":")[2]), lines
    finally:
        late.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.communicate()
