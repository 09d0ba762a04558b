"A signature verifies for one key and one set of bytes; everything else is refused in one line."
import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("model_signing", reason="the extra sign is not installed")

import model_signing
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from literate import ROOT

from image_classifier.core import ArtifactError, ConfigError, SIGNATURE, write_manifest
from image_classifier.data import Preprocess
from image_classifier.inference import Classifier, fingerprint, generate_keys, load_signed, PRIVATE, PUBLIC, read_private_key, read_public_key, sign, signing, verify
from image_classifier.models import Architecture, build_model

IMAGE = np.arange(64, dtype=np.uint8).reshape(8, 8)


def tiny(seed=1):
    return Classifier(build_model(Architecture("simple_cnn", channels=1, classes=3, size=8), seed=seed), Preprocess(8, 1, "crop", (0.5,), (0.25,)), ["cat", "dog", "owl"])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    "Return a folder with two key pairs and a classifier signed with the first."
    place = tmp_path_factory.mktemp("signed")
    for name in ("ours", "theirs"):
        generate_keys(place / name)
    sign(tiny().save(place / "classifier"), place / "ours" / PRIVATE)
    return place


@pytest.fixture
def folder(home, tmp_path):
    "Return a copy of the signed classifier, to be changed."
    return shutil.copytree(home / "classifier", tmp_path / "classifier")


@pytest.fixture
def key(home):
    return home / "ours" / PUBLIC


def refused(folder, key, *parts):
    "Check that verifying and loading raise the same one-line error, which contains all `parts`; return it."
    lines = []
    for check in (verify, load_signed):
        start = time.monotonic()
        with pytest.raises(ArtifactError) as caught:
            check(folder, key)
        assert caught.value.exit_code == 4 and time.monotonic() - start < 2
        lines.append(str(caught.value))
    assert lines[0] == lines[1] and "\n" not in lines[0] and len(lines[0]) < 600
    for part in parts:
        assert part in lines[0]
    return lines[0]


def rewrite(folder, change):
    "Apply `change` to the content of a signature file."
    content = json.loads((folder / SIGNATURE).read_text())
    change(content)
    (folder / SIGNATURE).write_text(json.dumps(content))


# keys


def test_keys_are_never_overwritten_and_only_the_owner_reads_the_private_one(tmp_path):
    mask = os.umask(0)
    try:
        name = generate_keys(tmp_path / "a" / "keys")
    finally:
        os.umask(mask)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "a").rglob("*")}
    assert modes == {"keys": 0o700, PRIVATE: 0o600, PUBLIC: 0o644}
    before = (tmp_path / "a" / "keys" / PRIVATE).read_bytes()
    with pytest.raises(ConfigError, match=f"a key pair with fingerprint {name} is there already"):
        generate_keys(tmp_path / "a" / "keys")
    assert (tmp_path / "a" / "keys" / PRIVATE).read_bytes() == before
    assert name == fingerprint(read_private_key(tmp_path / "a" / "keys" / PRIVATE).public_key()) == fingerprint(read_public_key(tmp_path / "a" / "keys" / PUBLIC))


def test_full_disk_leaves_no_half_pair_of_keys(tmp_path, monkeypatch):
    written, write = [], signing._write_new

    def full(path, data, mode):
        if written:
            raise OSError(28, "No space left on device")
        written.append(path)
        write(path, data, mode)
    monkeypatch.setattr(signing, "_write_new", full)
    with pytest.raises(Exception, match="the disk is full") as caught:
        generate_keys(tmp_path / "keys")
    assert caught.value.exit_code == 6 and written and not (tmp_path / "keys").exists()


def test_openssl_computes_the_same_fingerprint(home, key):
    if not shutil.which("openssl"):
        pytest.skip("no openssl")
    der = subprocess.run(["openssl", "pkey", "-pubin", "-in", key, "-outform", "DER"], capture_output=True, check=True).stdout
    digest = subprocess.run(["openssl", "dgst", "-sha256", "-r"], input=der, capture_output=True, check=True).stdout.decode()
    assert verify(home / "classifier", key) == digest[:16]


def test_password_protects_the_private_key(tmp_path):
    name, folder = generate_keys(tmp_path / "keys", password="sésame"), tiny().save(tmp_path / "classifier")
    private = tmp_path / "keys" / PRIVATE
    for password, line in (("", "locked with a password"), ("sesame", "wrong password")):
        with pytest.raises(ArtifactError, match=line):
            sign(folder, private, password)
    assert not (folder / SIGNATURE).exists()
    sign(folder, private, "sésame")
    assert verify(folder, tmp_path / "keys" / PUBLIC) == name
    generate_keys(tmp_path / "open")
    with pytest.raises(ArtifactError, match="not locked with a password"):
        sign(folder, tmp_path / "open" / PRIVATE, "sésame")
    with pytest.raises(ConfigError, match="1024 bytes"):
        generate_keys(tmp_path / "long", "x" * 1024)
    assert not (tmp_path / "long").exists()


PUBLIC_FORM = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
PRIVATE_FORM = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
OTHER_KINDS = {"Ed25519PublicKey": ed25519.Ed25519PrivateKey.generate(), "RSAPublicKey": rsa.generate_private_key(65537, 2048), "secp256k1": ec.generate_private_key(ec.SECP256K1())}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_unsupported_kind_of_key_is_named(folder, tmp_path, kind):
    (tmp_path / "k.pem").write_bytes(OTHER_KINDS[kind].public_key().public_bytes(*PUBLIC_FORM))
    (tmp_path / "p.pem").write_bytes(OTHER_KINDS[kind].private_bytes(*PRIVATE_FORM))
    refused(folder, tmp_path / "k.pem", "a key of a kind that is not supported", kind, "k.pem")
    with pytest.raises(ArtifactError, match="a key of a kind that is not supported"):
        sign(folder, tmp_path / "p.pem")


@pytest.mark.parametrize("curve", [ec.SECP384R1, ec.SECP521R1])
def test_longer_curves_are_supported(folder, tmp_path, curve):
    longer = ec.generate_private_key(curve())
    (tmp_path / "p.pem").write_bytes(longer.private_bytes(*PRIVATE_FORM))
    (tmp_path / "k.pem").write_bytes(longer.public_key().public_bytes(*PUBLIC_FORM))
    sign(folder, tmp_path / "p.pem")
    assert verify(folder, tmp_path / "k.pem") == fingerprint(longer.public_key())


KEY_FILES = {"empty": b"", "text": b"not a key", "binary": bytes(range(256)), "PEM of nothing": b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
             "PEM of noise": b"-----BEGIN PUBLIC KEY-----\n" + base64.b64encode(bytes(91)) + b"\n-----END PUBLIC KEY-----\n",
             "a certificate": b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(bytes(91)) + b"\n-----END CERTIFICATE-----\n"}


@pytest.mark.parametrize("name", KEY_FILES)
def test_file_that_is_not_a_key_is_refused(folder, tmp_path, name):
    (tmp_path / "k.pem").write_bytes(KEY_FILES[name])
    refused(folder, tmp_path / "k.pem", "not a public key in PEM", "k.pem")
    with pytest.raises(ArtifactError, match="not a private key in PEM"):
        sign(folder, tmp_path / "k.pem")
    (tmp_path / "k.pem").write_bytes(KEY_FILES[name].replace(b"PUBLIC", b"PRIVATE"))
    with pytest.raises(ArtifactError, match="not a private key in PEM"):
        sign(folder, tmp_path / "k.pem")


def test_private_key_given_as_public_key_is_recognized(folder, home, tmp_path):
    refused(folder, home / "ours" / PRIVATE, "this is a private key", "keep it secret")
    generate_keys(tmp_path / "locked", "a secret")
    refused(folder, tmp_path / "locked" / PRIVATE, "this is a private key")
    with pytest.raises(ArtifactError, match="not a private key"):
        sign(folder, home / "ours" / PUBLIC)


def test_key_file_that_is_missing_a_link_a_folder_a_pipe_or_huge_is_refused(folder, key, tmp_path):
    refused(folder, tmp_path / "gone.pem", "no such file", "gone.pem")
    refused(folder, tmp_path, "not a regular file")
    (tmp_path / "link.pem").symlink_to(key)
    refused(folder, tmp_path / "link.pem", "links are not followed")
    os.mkfifo(tmp_path / "pipe.pem")
    refused(folder, tmp_path / "pipe.pem", "not a regular file")
    with open(tmp_path / "huge.pem", "wb") as file:
        file.truncate(1 << 40)
    refused(folder, tmp_path / "huge.pem", "more than the 65536 allowed")


# changed artifacts


def test_copy_verifies_under_any_name(folder, key, tmp_path):
    assert verify(folder, key) == verify(shutil.copytree(folder, tmp_path / "another name"), key)
    assert load_signed(folder, key).predict(IMAGE) == Classifier.load(folder).predict(IMAGE) == tiny().predict(IMAGE)


def test_unsigned_artifact_is_refused(folder, key):
    (folder / SIGNATURE).unlink()
    refused(folder, key, "not signed (no model.sig)")


def test_saving_again_removes_the_signature(folder, key):
    tiny(seed=2).save(folder)
    refused(folder, key, "not signed (no model.sig)")


def test_signature_by_another_key_is_refused_with_the_fingerprint(folder, home):
    other = home / "theirs" / PUBLIC
    refused(folder, other, f"signature does not match key {fingerprint(read_public_key(other))}")


@pytest.mark.parametrize("hint", ["own", "", "x" * 10_000, None, 7])
def test_key_hint_in_a_signature_is_ignored(folder, home, key, hint):
    other = home / "theirs" / PUBLIC
    rewrite(folder, lambda content: content["verificationMaterial"]["publicKey"].update(hint=hashlib.sha256(other.read_bytes()).hexdigest() if hint == "own" else hint))
    refused(folder, other, "signature does not match key")
    assert verify(folder, key) == fingerprint(read_public_key(key))


def attacked(folder):
    "Replace the weights and the manifest, and keep the old signature."
    signature = (folder / SIGNATURE).read_bytes()
    tiny(seed=2).save(folder)
    (folder / SIGNATURE).write_bytes(signature)


def test_swapped_weights_with_a_matching_manifest_are_refused(folder, key):
    attacked(folder)
    Classifier.load(folder)  # the manifest alone does not detect it
    refused(folder, key, f"not the files that key {fingerprint(read_public_key(key))} signed")


@pytest.mark.parametrize("name", ["classifier.json", "model.safetensors", "metrics.json", "README.md", "MANIFEST.json"])
def test_changed_removed_or_linked_file_is_refused(folder, key, tmp_path, name):
    path, data = folder / name, (folder / name).read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    refused(folder, key)
    path.unlink()
    refused(folder, key)
    (tmp_path / "elsewhere").write_bytes(data)
    path.symlink_to(tmp_path / "elsewhere")
    refused(folder, key, "links are not followed")
    path.unlink()
    path.mkdir()
    refused(folder, key)
    path.rmdir()
    os.mkfifo(path)
    refused(folder, key)


@pytest.mark.parametrize("name", ["README.md", "model.safetensors"])
def test_hard_linked_file_is_refused(folder, key, tmp_path, name):
    os.link(folder / name, tmp_path / "second name")
    refused(folder, key, "links are not followed")


@pytest.mark.parametrize("name", ["run.py", ".gitignore", ".hidden", "-rf", "two\nlines", "\u202egnp.exe", "model.sig.old", "MODEL.SIG"])
@pytest.mark.parametrize("matching", [False, True])
def test_added_file_is_refused(folder, key, name, matching):
    (folder / name).write_text("import os")
    if matching:
        write_manifest(folder)
    refused(folder, key)


@pytest.mark.parametrize("name", [".git", "__pycache__", "empty"])
def test_added_folder_is_refused(folder, key, name):
    (folder / name).mkdir()
    refused(folder, key, "not in the manifest")
    (folder / name / "x").write_text("")
    refused(folder, key, "not in the manifest")


def test_signature_of_another_artifact_by_the_same_key_is_refused(folder, home, key, tmp_path):
    other = tiny(seed=2).save(tmp_path / "other")
    sign(other, home / "ours" / PRIVATE)
    shutil.copy(other / SIGNATURE, folder / SIGNATURE)
    refused(folder, key, "not the files that key")


def test_huge_artifact_is_refused_at_once(folder, key):
    with open(folder / "model.safetensors", "ab") as file:
        file.truncate(1 << 40)
    refused(folder, key, "more than the 17179869184 allowed here")


def test_folder_that_is_not_an_artifact_is_refused(key, tmp_path):
    refused(tmp_path / "gone", key, "no such file or directory", "gone")
    refused(key, key, "not a directory")
    refused(tmp_path, key, "incomplete (no MANIFEST.json)")


# signature files


SIGNATURES = {
    "empty": b"", "text": b"signed, honestly", "binary": bytes(range(256)), "not UTF-8": b'{"a": "\xff"}', "NaN": b'{"dsseEnvelope": NaN}', "a number": b"7", "null": b"null",
    "a list": b"[]", "an object": b"{}", "deep lists": b"[" * 200_000, "deep objects": b'{"a":' * 100_000, "a long number": b"9" * 100_000, "cut": b'{"dsseEnvelope": {"payload": "e30',
    "envelope of null": b'{"dsseEnvelope": null}', "no signatures": b'{"dsseEnvelope": {"payload": "e30=", "signatures": []}}',
    "two signatures": b'{"dsseEnvelope": {"payload": "e30=", "signatures": [{"sig": "e30="}, {"sig": "e30="}]}}',
    "signature of a number": b'{"dsseEnvelope": {"payload": "e30=", "signatures": [{"sig": 7}]}}', "not base64": b'{"dsseEnvelope": {"payload": "e30=", "signatures": [{"sig": "?"}]}}',
    "base64 with a line": b'{"dsseEnvelope": {"payload": "e3\\n0=", "signatures": [{"sig": "e30="}]}}', "not ASCII": '{"dsseEnvelope": {"payload": "é", "signatures": [{"sig": "e30="}]}}'.encode(),
    "nothing signed": b'{"dsseEnvelope": {"payload": "", "signatures": [{"sig": ""}]}}', "noise": b'{"dsseEnvelope": {"payload": "e30=", "signatures": [{"sig": "e30="}]}}',
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_invalid_signature_file_is_refused(folder, key, name):
    (folder / SIGNATURE).write_bytes(SIGNATURES[name])
    refused(folder, key, "signature does not match key" if name in ("nothing signed", "noise") else SIGNATURE)


def test_signature_file_that_is_huge_a_link_a_folder_or_a_pipe_is_refused(folder, key, tmp_path):
    path = folder / SIGNATURE
    shutil.move(path, tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    refused(folder, key, "links are not followed")
    path.unlink()
    path.mkdir()
    refused(folder, key, "not a regular file")
    path.rmdir()
    os.mkfifo(path)
    refused(folder, key, "not a regular file")
    path.unlink()
    with open(path, "wb") as file:
        file.truncate(2 << 20)
    refused(folder, key, "more than the 1048576 allowed")


def test_any_flipped_bit_of_the_list_or_signature_is_refused(folder, key):
    "A hundred random bits, one at a time."
    rng = np.random.default_rng(0)
    content = json.loads((folder / SIGNATURE).read_text())
    for number in range(100):
        holder, name = (content["dsseEnvelope"], "payload") if number % 2 else (content["dsseEnvelope"]["signatures"][0], "sig")
        before = holder[name]
        data = bytearray(base64.b64decode(before))
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        holder[name] = base64.b64encode(data).decode()
        (folder / SIGNATURE).write_text(json.dumps(content))
        with pytest.raises(ArtifactError, match="signature does not match key"):
            verify(folder, key)
        holder[name] = before


def partly_signed(folder, private):
    "Sign validly but without the model card and the manifest, as other signers may."
    config = model_signing.hashing.Config().set_ignored_paths(paths=["README.md", "MANIFEST.json", SIGNATURE])
    model_signing.signing.Config().use_elliptic_key_signer(private_key=private).set_hashing_config(config).sign(folder, folder / SIGNATURE)


@pytest.mark.parametrize("spelling", ["dsse_envelope", "dsseEnvelope"])
def test_second_spelling_of_a_json_key_cannot_show_two_readers_different_lists(folder, home, key, spelling):
    "model-signing also reads dsse_envelope: a valid list under one name and a longer, forged one under the other."
    partly_signed(folder, home / "ours" / PRIVATE)
    true = json.loads((folder / SIGNATURE).read_text())
    names = [path.name for path in folder.iterdir() if path.name != SIGNATURE]
    forged = {"payload": base64.b64encode(json.dumps({"predicate": {"resources": [{"name": name} for name in names]}}).encode()).decode(),
              "payloadType": "application/vnd.in-toto+json", "signatures": [{"sig": "e30="}]}
    envelopes = {"dsse_envelope": forged, "dsseEnvelope": forged} | {spelling: true.pop("dsseEnvelope")}
    (folder / "README.md").write_text("trust me")
    (folder / SIGNATURE).unlink()
    write_manifest(folder)
    (folder / SIGNATURE).write_text(json.dumps(true | envelopes))
    refused(folder, key)


def signed_by_hand(folder, private, payload):
    "Sign any payload with the private key."
    head = b"DSSEv1 28 application/vnd.in-toto+json %d " % len(payload)
    signature = read_private_key(private).sign(head + payload, ec.ECDSA(hashes.SHA256()))
    rewrite(folder, lambda content: content["dsseEnvelope"].update(payload=base64.b64encode(payload).decode(), signatures=[{"sig": base64.b64encode(signature).decode()}]))


@pytest.mark.parametrize("payload", [b"", b"7", b"[]", b"{}", b"[" * 100_000, b'{"_type": "https://in-toto.io/Statement/v1"}', b"\xff", b"null",
                                     b'{"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1", "subject": []}',
                                     b'{"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://model_signing/signature/v1.0", "subject": [7]}'])
def test_valid_signature_of_another_payload_is_refused(folder, home, key, payload):
    signed_by_hand(folder, home / "ours" / PRIVATE, payload)
    refused(folder, key, "not the files that key")


def test_signed_list_that_omits_or_ignores_a_file_is_refused(folder, home, key):
    "Other signers may omit files; an attacker could then replace those."
    partly_signed(folder, home / "ours" / PRIVATE)
    refused(folder, key, "not signed by key", "MANIFEST.json; README.md")
    signed = json.loads(base64.b64decode(json.loads((folder / SIGNATURE).read_text())["dsseEnvelope"]["payload"]))
    signed["predicate"]["serialization"]["ignore_paths"] = ["."]
    signed_by_hand(folder, home / "ours" / PRIVATE, json.dumps(signed).encode())
    refused(folder, key, "not the files that key")


# signing


def test_artifact_that_does_not_match_its_manifest_is_not_signed(folder, home, key):
    for change in (lambda: (folder / "notes.txt").write_text("mine"), lambda: (folder / "README.md").write_text("better")):
        before = (folder / SIGNATURE).read_bytes()
        change()
        with pytest.raises(ArtifactError, match="notes.txt|README.md"):
            sign(folder, home / "ours" / PRIVATE)
        assert (folder / SIGNATURE).read_bytes() == before
        (folder / "notes.txt").unlink(missing_ok=True)


def test_manifest_that_lists_the_signature_is_refused_before_signing(folder, home):
    write_manifest(folder)
    with pytest.raises(ArtifactError, match="the manifest lists model.sig"):
        sign(folder, home / "ours" / PRIVATE)
    Classifier.load(folder)


def test_signing_again_replaces_the_signature(folder, home, key):
    sign(folder, home / "theirs" / PRIVATE)
    refused(folder, key, "signature does not match key")
    assert verify(folder, home / "theirs" / PUBLIC) == fingerprint(read_public_key(home / "theirs" / PUBLIC))


def test_signature_contains_no_path(folder):
    content = (folder / SIGNATURE).read_text()
    signed = json.loads(base64.b64decode(json.loads(content)["dsseEnvelope"]["payload"]))
    assert signed["subject"][0]["name"] == "classifier" and str(folder.parent) not in json.dumps(signed)
    assert {resource["name"] for resource in signed["predicate"]["resources"]} == set(os.listdir(folder)) - {SIGNATURE}


def test_signature_is_not_written_through_a_link(folder, home):
    (folder / SIGNATURE).unlink()
    (folder / SIGNATURE).symlink_to(folder / "README.md")
    with pytest.raises(ArtifactError, match="links are not followed"):
        sign(folder, home / "ours" / PRIVATE)
    assert "How to use it" in (folder / "README.md").read_text()


# time of check, time of use


def test_verified_bytes_are_loaded_even_if_the_folder_is_swapped_in_between(folder, key, monkeypatch):
    load = Classifier.load
    monkeypatch.setattr(Classifier, "load", lambda place: (attacked(folder), load(place))[1])
    assert load_signed(folder, key).predict(IMAGE) == tiny().predict(IMAGE)
    assert load(folder).predict(IMAGE) == tiny(seed=2).predict(IMAGE)


def test_swap_between_manifest_check_and_copy_is_refused(folder, key, monkeypatch):
    check = signing._check_files
    monkeypatch.setattr(signing, "_check_files", lambda place: (check(place), attacked(folder))[0])
    with pytest.raises(ArtifactError, match="not the files that key"):
        load_signed(folder, key)


def test_private_copy_is_readable_by_its_owner_alone_and_deleted_afterwards(folder, home, key, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before, seen, load = set(tmp_path.iterdir()), [], Classifier.load
    monkeypatch.setattr(Classifier, "load", lambda place: (seen.append(place.parent.stat().st_mode & 0o777), load(place))[1])
    load_signed(folder, key)
    sign(folder, home / "ours" / PRIVATE)
    attacked(folder)
    with pytest.raises(ArtifactError):
        load_signed(folder, key)
    assert seen == [0o700] and set(tmp_path.iterdir()) == before


def test_signed_artifact_is_still_checked_on_loading(folder, home, key):
    "A valid signature does not disable the loader's checks, and the error names the folder, not the copy."
    description = json.loads((folder / "classifier.json").read_text())
    (folder / "classifier.json").write_text(json.dumps(description | {"temperature": 0}))
    (folder / SIGNATURE).unlink()
    write_manifest(folder)
    sign(folder, home / "ours" / PRIVATE)
    verify(folder, key)
    with pytest.raises(ArtifactError, match="temperature must be") as caught:
        load_signed(folder, key)
    assert caught.value.where == folder


# dependencies


def test_nothing_is_sent_anywhere(folder, home, key, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a connection was tried")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    sign(folder, home / "ours" / PRIVATE)
    assert verify(folder, key)


def test_verifying_prints_nothing_and_needs_no_torch(folder, key):
    program = f"import sys\nfrom image_classifier.inference.signing import verify\nverify({str(folder)!r}, {str(key)!r})\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("missing", ["model_signing", "OpenSSL", "cryptography"])
def test_missing_extra_is_named(folder, home, tmp_path, monkeypatch, missing):
    for name in [name for name in sys.modules if name.split(".")[0] == missing]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match="pip install 'literate-image-classifier\\[sign\\]'"):
        sign(folder, home / "ours" / PRIVATE)


def test_model_signing_command_reads_our_signatures_and_we_read_its(folder, home, key, tmp_path):
    def tool(*args):
        return subprocess.run([sys.executable, "-m", "model_signing", *map(str, args)], capture_output=True, text=True, cwd=tmp_path)
    assert tool("verify", "key", folder, "--signature", folder / SIGNATURE, "--public_key", key).returncode == 0
    assert tool("verify", "key", folder, "--signature", folder / SIGNATURE, "--public_key", home / "theirs" / PUBLIC).returncode != 0
    model_signing.verifying.Config().use_elliptic_key_verifier(public_key=key).verify(folder, folder / SIGNATURE)
    (folder / SIGNATURE).unlink()
    made = tool("sign", "key", folder, "--signature", folder / SIGNATURE, "--private_key", home / "ours" / PRIVATE)
    assert made.returncode == 0, made.stderr
    assert verify(folder, key) == fingerprint(read_public_key(key))
    assert load_signed(folder, key).classes == ("cat", "dog", "owl")


def test_keys_generated_by_openssl_are_supported(folder, tmp_path):
    if not shutil.which("openssl"):
        pytest.skip("no openssl")
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", tmp_path / "p.pem"], check=True)
    subprocess.run(["openssl", "ec", "-in", tmp_path / "p.pem", "-pubout", "-out", tmp_path / "k.pem"], check=True, capture_output=True)
    sign(folder, tmp_path / "p.pem")
    assert verify(folder, tmp_path / "k.pem")
