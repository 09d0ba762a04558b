"Downloads from a real server on loopback; no other host is contacted."
import gzip
import hashlib
import os
import re
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import numpy as np
import pytest

from image_classifier.cli import main
from image_classifier.config import DataConfig
from image_classifier.core import ConfigError, DataError, MARKER, own_folder
from image_classifier.data import fetch, IDX_FILES, IDX_SETS, load_data, RemoteFile

CONTENT = bytes(range(256)) * 400


class Handler(BaseHTTPRequestHandler):
    "Serves `server.files`; breaks the connection in the middle of the first `server.breaks` answers."

    def do_GET(self):
        self.server.requests.append(self.path)
        content = self.server.files.get(self.path)
        if content is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.server.breaks > 0:
            self.server.breaks -= 1
            self.wfile.write(content[:len(content) // 2])
            return self.connection.close()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    "A server on a free port; `server.url` is its URL."
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.requests, server.breaks = {"/good/a.bin": CONTENT}, [], 0
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def closed():
    "The URL of a port on which no server listens."
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        return f"http://127.0.0.1:{server.server_address[1]}/"


def remote(*mirrors, content=CONTENT, kind="sha256"):
    return RemoteFile("a.bin", f"{kind}:{hashlib.new(kind, content).hexdigest()}", mirrors)


def files_in(folder):
    "The names of all files below `folder`, but markers."
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != MARKER)


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_file_is_downloaded_once_and_then_used_offline(server, tmp_path, kind):
    wanted = remote(f"{server.url}/good/", kind=kind)
    assert fetch([wanted], tmp_path / "cache")[0].read_bytes() == CONTENT
    assert fetch([wanted], tmp_path / "cache", download=False)[0].read_bytes() == CONTENT
    assert server.requests == ["/good/a.bin"] and files_in(tmp_path) == ["a.bin"]


def test_wrong_content_is_refused_and_not_kept(server, tmp_path):
    with pytest.raises(DataError, match=re.escape(f"{urlsplit(server.url).netloc} content does not match the checksum")):
        fetch([remote(f"{server.url}/good/", content=b"what was published")], tmp_path, attempts=1)
    assert files_in(tmp_path) == []


def test_damaged_copy_in_the_cache_is_replaced(server, tmp_path):
    (own_folder(tmp_path, "cache") / "a.bin").write_bytes(CONTENT[:-1])
    assert fetch([remote(f"{server.url}/good/")], tmp_path)[0].read_bytes() == CONTENT
    assert files_in(tmp_path) == ["a.bin"]


def test_a_file_in_a_folder_of_the_users_is_never_replaced_by_a_download(server, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"mine")
    with pytest.raises(DataError, match="does not match the checksum, and the file would be replaced"):
        fetch([remote(f"{server.url}/good/")], tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == b"mine" and os.listdir(tmp_path) == ["a.bin"] and server.requests == []
    (tmp_path / "a.bin").rename(tmp_path / "mine.bin")  # beside other files it is put, and the folder stays the user's
    assert fetch([remote(f"{server.url}/good/")], tmp_path)[0].read_bytes() == CONTENT
    assert sorted(os.listdir(tmp_path)) == ["a.bin", "mine.bin"]


def test_damaged_copy_is_not_used_when_offline(tmp_path):
    (tmp_path / "a.bin").write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match="put a.bin from "):
        fetch([remote("http://127.0.0.1:9/")], tmp_path, download=False)


def test_next_mirror_is_used_when_one_fails(server, closed, tmp_path):
    server.files["/wrong/a.bin"] = b"<html>moved</html>"
    mirrors = (closed, f"{server.url}/absent/", f"{server.url}/wrong/", f"{server.url}/good/")
    assert fetch([remote(*mirrors)], tmp_path, attempts=1)[0].read_bytes() == CONTENT
    assert server.requests == ["/absent/a.bin", "/wrong/a.bin", "/good/a.bin"] and files_in(tmp_path) == ["a.bin"]


def test_broken_connection_is_retried(server, tmp_path):
    server.breaks = 1
    assert fetch([remote(f"{server.url}/good/")], tmp_path, attempts=2)[0].read_bytes() == CONTENT
    assert len(server.requests) == 2 and files_in(tmp_path) == ["a.bin"]


def test_no_partial_file_stays_after_a_broken_connection(server, tmp_path):
    server.breaks = 9
    with pytest.raises(DataError, match="could not download a.bin"):
        fetch([remote(f"{server.url}/good/")], tmp_path, attempts=1)
    assert files_in(tmp_path) == []


def test_error_gives_every_mirrors_reason(server, closed, tmp_path):
    with pytest.raises(DataError) as caught:
        fetch([remote(closed, f"{server.url}/absent/")], tmp_path, attempts=1)
    hosts = [urlsplit(url).netloc for url in (closed, server.url)]
    assert f"{hosts[0]} failed (ConnectionError); {hosts[1]} answered 404" in str(caught.value)
    assert caught.value.exit_code == 3 and "\n" not in str(caught.value)


def test_offline_error_says_which_file_to_put_where(tmp_path):
    with pytest.raises(DataError) as caught:
        load_data(DataConfig("mnist", cache_dir=str(tmp_path), download=False))
    line = str(caught.value)
    for part in ("data.download is off", "from https://ossci-datasets.s3.amazonaws.com/mnist/ into", "train-images-idx3-ubyte.gz",
                 "t10k-labels-idx1-ubyte.gz", str(tmp_path / "mnist"), "data.root"):
        assert line.count(part) == 1
    with pytest.raises(DataError, match="put cifar-10-binary.tar.gz from https://www.cs.toronto.edu/~kriz/ into"):
        load_data(DataConfig("cifar10", cache_dir=str(tmp_path), download=False))


def test_failed_download_is_one_readable_line_and_no_entry_of_the_cache(closed, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(IDX_SETS, "mnist", IDX_SETS["mnist"]._replace(mirrors=(closed, closed)))
    assert main(["train", "data=mnist", f"data.cache_dir={tmp_path / 'cache'}", "--out", str(tmp_path / "run")]) == 3
    line, = capsys.readouterr().err.splitlines()
    assert len(line.replace(str(tmp_path), "")) < 350 and "md5" not in line
    assert main(["cache", f"data.cache_dir={tmp_path / 'cache'}"]) == 0
    assert capsys.readouterr().out.startswith("0 bytes in ")


def test_download_of_some_of_the_files_is_an_unfinished_entry(tmp_path, capsys):
    own_folder(tmp_path / "fashion_mnist", "cache")
    for number, name in enumerate(IDX_FILES):
        (tmp_path / "fashion_mnist" / f"{name}.gz").write_bytes(b"12345")
        assert main(["cache", f"data.cache_dir={tmp_path}"]) == 0
        assert ("unfinished" in capsys.readouterr().out) == (number < 3)


def test_cache_folder_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(ConfigError, match="a folder is needed"):
        fetch([remote(f"{server.url}/good/")], tmp_path / "cache")


def test_data_set_is_downloaded_and_loaded(server, tmp_path, monkeypatch):
    random, hashes = np.random.default_rng(0), []
    for name in IDX_FILES:
        n = 60 if name.startswith("train") else 20
        array = random.integers(0, 256, (n, 28, 28)) if "images" in name else np.arange(n) % 10
        head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        packed = gzip.compress(head + array.astype(np.uint8).tobytes())
        server.files[f"/mnist/{name}.gz"] = packed
        hashes.append(hashlib.md5(packed).hexdigest())
    monkeypatch.setitem(IDX_SETS, "mnist", IDX_SETS["mnist"]._replace(md5=tuple(hashes), mirrors=(f"{server.url}/mnist/",)))
    config = DataConfig("mnist", cache_dir=str(tmp_path))
    splits = load_data(config)
    assert len(splits.test) == 20 and files_in(tmp_path / "mnist") == sorted(f"{name}.gz" for name in IDX_FILES)
    server.files.clear()
    assert load_data(config).fingerprint == splits.fingerprint
