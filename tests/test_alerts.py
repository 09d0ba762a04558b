"""Alerts reach a real server and real commands; a hook that fails gives a warning, never an exception, and no secret in it."""
import json
import shlex
import socket
import sys
import threading
import time
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from image_classifier.cli import main
from image_classifier.core import alert, check_hook, ConfigError, parse_hook

REPORT = {"text": "3 classes are missing: \u202ezoë", "success": False}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server():
    "A server on this machine: requests are collected in `received`, responses are set with `answer`."
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.received.append((self.path, self.headers["Content-Type"], body))
            self.server.answer(self)

        do_GET = do_POST

        def log_message(self, *_):
            pass

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving.received, serving.address = [], f"http://127.0.0.1:{serving.server_port}"
    serving.daemon_threads = True
    serving.answer = lambda handler: (handler.send_response(204), handler.end_headers())
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield serving
    serving.shutdown()
    serving.server_close()
    thread.join()


def warned(hook, report=REPORT, **options):
    "Send an alert; return the text of its warnings."
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        alert(hook, report, **options)
    return [str(warning.message) for warning in caught]


def python(code):
    return shlex.join([sys.executable, "-c", code])


# Webhooks


def test_a_server_receives_the_report_as_json(server):
    assert warned(f"{server.address}/hook?key=1") == []
    (path, kind, body), = server.received
    assert (path, kind, json.loads(body)) == ("/hook?key=1", "application/json", REPORT)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(server, code):
    def answer(handler):
        handler.send_response(code)
        handler.send_header("Location", f"{server.address}/elsewhere")
        handler.end_headers()
    server.answer = answer
    assert warned(f"{server.address}/hook/secret") == [f"the alert to {server.address} failed: it answered {code}"]
    assert len(server.received) == 1


def test_a_rejected_request_is_one_line_without_the_secrets_of_the_url(server):
    server.answer = lambda handler: handler.send_error(403, "no <b>entry</b>")
    line, = warned(server.address.replace("//", "//me:password@") + "/services/secret")
    assert "password" not in line and "secret" not in line and "\n" not in line


@pytest.mark.parametrize("pause, chunk", [(30, b""), (0.1, b"X")], ids=["silent", "a byte at a time"])
def test_a_slow_server_does_not_delay_the_program(pause, chunk):
    "The time limit holds for a server that sends nothing and for one that never stops sending."
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stop = threading.Event()

        def drip():
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while not stop.wait(pause):
                    try:
                        connection.sendall(chunk)
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        begun = time.monotonic()
        line, = warned(f"http://127.0.0.1:{listening.getsockname()[1]}/", seconds=0.5)
        assert time.monotonic() - begun < 5 and ("took longer than 0.5 s" in line or "timed out" in line)
        stop.set()
        thread.join()


def test_a_refused_connection_and_a_server_that_does_not_speak_http_are_warnings():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/secret"

        def mail_server():
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"220 mail.example ESMTP\x1b[31m\r\n")

        thread = threading.Thread(target=mail_server)
        thread.start()
        wrong_protocol, = warned(address)
        thread.join()
    refused, = warned(address)
    assert "\x1b" not in wrong_protocol
    assert all("failed: " in line and "secret" not in line for line in (wrong_protocol, refused))


# Commands


def test_a_command_reads_the_report(tmp_path):
    assert warned(python(f"import sys; open({str(tmp_path / 'received')!r}, 'wb').write(sys.stdin.buffer.read())")) == []
    assert json.loads((tmp_path / "received").read_bytes()) == REPORT


def test_a_command_runs_without_a_shell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "import sys; open('words', 'w').write('\\n'.join(sys.argv[1:]))"
    assert warned(python(code) + " $HOME '$(touch canary)' ; touch canary | x > canary") == []
    words = (tmp_path / "words").read_text().split("\n")
    assert words == ["$HOME", "$(touch canary)", ";", "touch", "canary", "|", "x", ">", "canary"]
    assert not (tmp_path / "canary").exists()


def test_output_of_a_command_stays_out_of_stdout_and_stderr(capfd):
    line, = warned(python(r"import sys; print('{}'); sys.stderr.buffer.write(b'\xff\x1b[31mno mail\n\n'); sys.exit(3)"))
    assert line.endswith(r"failed: 'exit code 3: �\x1b[31mno mail'")
    assert capfd.readouterr() == ("", "")


def test_a_command_that_reads_nothing_or_is_killed_is_no_error():
    large = {"text": "x" * 1_000_000}
    assert warned(python("pass"), large) == []
    line, = warned(python("import os; os.kill(os.getpid(), 9)"), large)
    assert "exit code -9" in line


def test_a_command_that_hangs_is_killed_with_its_child_processes(tmp_path):
    child = f"import time; time.sleep(2); open({str(tmp_path / 'canary')!r}, 'w')"
    parent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    line, = warned(python(parent), seconds=1.0)
    assert line.endswith("failed: it took longer than 1 s")
    time.sleep(2.5)
    assert not (tmp_path / "canary").exists()


def test_a_file_that_cannot_be_executed_is_a_warning(tmp_path):
    script = tmp_path / "hook"
    script.write_bytes(b"\x00no program")
    script.chmod(0o755)
    line, = warned(shlex.quote(str(script)))
    assert "failed: " in line and "\n" not in line


@pytest.mark.parametrize("hook, words", [
    ("", "no such command"), ("  ", "no such command"), ("/", "no such command"), ("a\0b", "no such command"),
    ("ftp://example.org/x", "no such command"), ("file:///etc/passwd", "no such command"), ("mail 'x", "no closing quotation"),
    ("http://chat.example:99999/x", "port out of range"), ("http://chat.example:0", "port 0"),
    ("http://", "no host"), ("http:///x", "no host"), ("https://[::1", "not an alert hook"),
    ("http://example.org/a b", "a space in it"), ("http://example.org/\r\nX: y", "a space in it")])
def test_a_wrong_hook_is_an_error_when_parsed_and_a_warning_when_sent(hook, words):
    with pytest.raises(ConfigError, match=words) as caught:
        parse_hook(hook)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)
    line, = warned(hook)
    assert words in line and "\n" not in line


def look_up(host, *_, **__):
    "Knows one host; another cannot be looked up now."
    if host == "later.example":
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    if host != "chat.example":
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.parametrize("hook", ["https://chat.exampel/secret", "http://me:secret@nowhere.example:80/", "https://chat..example/secret"])
def test_an_alert_to_a_host_that_does_not_exist_is_refused_before_the_check(hook, monkeypatch, tmp_path, capsys):
    if ".." not in hook:  # Python itself refuses this name
        monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr("image_classifier.quality.check_source", None)
    assert main(["check", "data=digits", "--suite", str(tmp_path / "suite.json"), "--alert", hook]) == 2
    line, = capsys.readouterr().err.splitlines()
    assert "the alert would not arrive: no such host" in line and "secret" not in line and not list(tmp_path.iterdir())


def test_an_alert_command_that_does_not_exist_is_refused_before_the_check(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("image_classifier.quality.check_source", None)
    assert main(["check", "data=digits", "--suite", str(tmp_path / "suite.json"), "--alert", "no-such-command"]) == 2
    assert "no such command for the alert" in capsys.readouterr().err


def test_a_host_that_exists_or_cannot_be_looked_up_now_does_not_stop_the_work(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_hook("https://chat.example/hook")
        check_hook("https://later.example/hook")
        monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
        check_hook("https://inside.example/hook")  # the proxy knows it
    assert [str(one.message) for one in caught] == ["the host of the alert cannot be looked up now: later.example"]


def test_a_name_server_that_does_not_answer_ends_the_wait(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(60))
    began = time.monotonic()
    with pytest.raises(ConfigError, match="it took longer than 0.2 s"):
        check_hook("https://chat.example/hook", seconds=0.2)
    assert time.monotonic() - began < 5
