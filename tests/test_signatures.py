"Whose classifier is it: a signature fits one key and one set of bytes, and everything else is refused in one line."
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

from image_classifier.core import ArtifactError, ConfigError, write_manifest
from image_classifier.data import Preprocess
from image_classifier.inference import Classifier, fingerprint, generate_keys, load_signed, PRIVATE, PUBLIC, read_private_key, read_public_key, sign, SIGNATURE, signing as signatures, verify
from image_classifier.models import Architecture, build_model

PICTURE = np.arange(64, dtype=np.uint8).reshape(8, 8)


def tiny(seed=1):
    return Classifier(build_model(Architecture("simple_cnn", channels=1, classes=3, size=8), seed=seed), Preprocess(8, 1, "crop", (0.5,), (0.25,)), ["cat", "dog", "owl"])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    "Two key pairs, and a classifier signed with the first."
    place = tmp_path_factory.mktemp("signed")
    for name in ("ours", "theirs"):
        generate_keys(place / name)
    sign(tiny().save(place / "classifier"), place / "ours" / PRIVATE)
    return place


@pytest.fixture
def folder(home, tmp_path):
    "A signed classifier to be spoilt."
    return shutil.copytree(home / "classifier", tmp_path / "classifier")


@pytest.fixture
def key(home):
    return home / "ours" / PUBLIC


def refused(folder, key, *parts):
    "The one line that verifying and loading both end in, which holds all `parts`."
    lines = []
    for check in (verify, load_signed):
        begun = time.monotonic()
        with pytest.raises(ArtifactError) as caught:
            check(folder, key)
        assert caught.value.exit_code == 4 and time.monotonic() - begun < 2
        lines.append(str(caught.value))
    assert lines[0] == lines[1] and "\n" not in lines[0] and len(lines[0]) < 600
    for part in parts:
        assert part in lines[0]
    return lines[0]


def rewrite(folder, change):
    "Put the content of a signature file through `change`."
    content = json.loads((folder / SIGNATURE).read_text())
    change(content)
    (folder / SIGNATURE).write_text(json.dumps(content))


# keys


def test_a_pair_of_keys_is_made_once_and_the_private_one_is_for_its_owner(tmp_path):
    mask = os.umask(0)
    try:
        name = generate_keys(tmp_path / "a" / "keys")
    finally:
        os.umask(mask)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "a").rglob("*")}
    assert modes == {"keys": 0o700, PRIVATE: 0o600, PUBLIC: 0o644}
    before = (tmp_path / "a" / "keys" / PRIVATE).read_bytes()
    with pytest.raises(ConfigError, match="file exists"):
        generate_keys(tmp_path / "a" / "keys")
    assert (tmp_path / "a" / "keys" / PRIVATE).read_bytes() == before
    assert name == fingerprint(read_private_key(tmp_path / "a" / "keys" / PRIVATE).public_key()) == fingerprint(read_public_key(tmp_path / "a" / "keys" / PUBLIC))


def test_no_half_pair_is_left_when_the_disk_is_full(tmp_path, monkeypatch):
    written, write = [], signatures._write_new

    def full(path, data, mode):
        if written:
            raise OSError(28, "No space left on device")
        written.append(path)
        write(path, data, mode)
    monkeypatch.setattr(signatures, "_write_new", full)
    with pytest.raises(Exception, match="the disk is full") as caught:
        generate_keys(tmp_path / "keys")
    assert caught.value.exit_code == 6 and written and not (tmp_path / "keys").exists()


def test_openssl_finds_the_same_fingerprint(home, key):
    if not shutil.which("openssl"):
        pytest.skip("no openssl")
    der = subprocess.run(["openssl", "pkey", "-pubin", "-in", key, "-outform", "DER"], capture_output=True, check=True).stdout
    digest = subprocess.run(["openssl", "dgst", "-sha256", "-r"], input=der, capture_output=True, check=True).stdout.decode()
    assert verify(home / "classifier", key) == digest[:16]


def test_a_password_locks_the_private_key(tmp_path):
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
def test_a_key_of_another_kind_is_named(folder, tmp_path, kind):
    (tmp_path / "k.pem").write_bytes(OTHER_KINDS[kind].public_key().public_bytes(*PUBLIC_FORM))
    (tmp_path / "p.pem").write_bytes(OTHER_KINDS[kind].private_bytes(*PRIVATE_FORM))
    refused(folder, tmp_path / "k.pem", "a key of a kind that is not supported", kind, "k.pem")
    with pytest.raises(ArtifactError, match="a key of a kind that is not supported"):
        sign(folder, tmp_path / "p.pem")


@pytest.mark.parametrize("curve", [ec.SECP384R1, ec.SECP521R1])
def test_longer_curves_sign_too(folder, tmp_path, curve):
    longer = ec.generate_private_key(curve())
    (tmp_path / "p.pem").write_bytes(longer.private_bytes(*PRIVATE_FORM))
    (tmp_path / "k.pem").write_bytes(longer.public_key().public_bytes(*PUBLIC_FORM))
    sign(folder, tmp_path / "p.pem")
    assert verify(folder, tmp_path / "k.pem") == fingerprint(longer.public_key())


KEY_FILES = {"empty": b"", "text": b"not a key", "binary": bytes(range(256)), "PEM of nothing": b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
             "PEM of noise": b"-----BEGIN PUBLIC KEY-----\n" + base64.b64encode(bytes(91)) + b"\n-----END PUBLIC KEY-----\n",
             "a certificate": b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(bytes(91)) + b"\n-----END CERTIFICATE-----\n"}


@pytest.mark.parametrize("name", KEY_FILES)
def test_what_is_no_key_is_refused(folder, tmp_path, name):
    (tmp_path / "k.pem").write_bytes(KEY_FILES[name])
    refused(folder, tmp_path / "k.pem", "not a public key in PEM", "k.pem")
    with pytest.raises(ArtifactError, match="not a private key in PEM"):
        sign(folder, tmp_path / "k.pem")
    (tmp_path / "k.pem").write_bytes(KEY_FILES[name].replace(b"PUBLIC", b"PRIVATE"))
    with pytest.raises(ArtifactError, match="not a private key in PEM"):
        sign(folder, tmp_path / "k.pem")


def test_a_private_key_given_for_the_public_one_is_called_so(folder, home, tmp_path):
    refused(folder, home / "ours" / PRIVATE, "this is a private key", "keep it secret")
    generate_keys(tmp_path / "locked", "a secret")
    refused(folder, tmp_path / "locked" / PRIVATE, "this is a private key")
    with pytest.raises(ArtifactError, match="not a private key"):
        sign(folder, home / "ours" / PUBLIC)


def test_a_key_file_that_is_absent_a_link_a_folder_a_pipe_or_huge_is_refused(folder, key, tmp_path):
    refused(folder, tmp_path / "gone.pem", "no such file", "gone.pem")
    refused(folder, tmp_path, "not a regular file")
    (tmp_path / "link.pem").symlink_to(key)
    refused(folder, tmp_path / "link.pem", "links are not followed")
    os.mkfifo(tmp_path / "pipe.pem")
    refused(folder, tmp_path / "pipe.pem", "not a regular file")
    with open(tmp_path / "huge.pem", "wb") as file:
        file.truncate(1 << 40)
    refused(folder, tmp_path / "huge.pem", "more than the 65536 allowed")


# what is not as it was signed


def test_a_copy_keeps_its_signature_under_any_name(folder, key, tmp_path):
    assert verify(folder, key) == verify(shutil.copytree(folder, tmp_path / "another name"), key)
    assert load_signed(folder, key).predict(PICTURE) == Classifier.load(folder).predict(PICTURE) == tiny().predict(PICTURE)


def test_nothing_signed_yet(folder, key):
    (folder / SIGNATURE).unlink()
    refused(folder, key, "not signed (no model.sig)")


def test_a_classifier_saved_anew_is_not_signed(folder, key):
    tiny(seed=2).save(folder)
    refused(folder, key, "not signed (no model.sig)")


def test_a_signature_by_another_key_is_refused_by_the_fingerprint(folder, home):
    other = home / "theirs" / PUBLIC
    refused(folder, other, f"signature does not match key {fingerprint(read_public_key(other))}")


@pytest.mark.parametrize("hint", ["own", "", "x" * 10_000, None, 7])
def test_what_a_signature_says_of_its_own_key_is_not_believed(folder, home, key, hint):
    other = home / "theirs" / PUBLIC
    rewrite(folder, lambda content: content["verificationMaterial"]["publicKey"].update(hint=hashlib.sha256(other.read_bytes()).hexdigest() if hint == "own" else hint))
    refused(folder, other, "signature does not match key")
    assert verify(folder, key) == fingerprint(read_public_key(key))


def attacked(folder):
    "The weights of another classifier with a manifest that fits, and the old signature."
    signature = (folder / SIGNATURE).read_bytes()
    tiny(seed=2).save(folder)
    (folder / SIGNATURE).write_bytes(signature)


def test_weights_exchanged_with_a_manifest_that_fits_are_refused(folder, key):
    attacked(folder)
    Classifier.load(folder)  # the manifest alone sees nothing
    refused(folder, key, f"not the files that key {fingerprint(read_public_key(key))} signed")


@pytest.mark.parametrize("name", ["classifier.json", "model.safetensors", "metrics.json", "README.md", "MANIFEST.json"])
def test_no_file_can_be_changed_removed_or_replaced_by_a_link(folder, key, tmp_path, name):
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
def test_a_file_with_a_second_name_elsewhere_is_refused(folder, key, tmp_path, name):
    os.link(folder / name, tmp_path / "second name")
    refused(folder, key, "links are not followed")


@pytest.mark.parametrize("name", ["run.py", ".gitignore", ".hidden", "-rf", "two\nlines", "\u202egnp.exe", "model.sig.old", "MODEL.SIG"])
@pytest.mark.parametrize("fitting", [False, True])
def test_no_file_can_be_added(folder, key, name, fitting):
    (folder / name).write_text("import os")
    if fitting:
        write_manifest(folder)
    refused(folder, key)


@pytest.mark.parametrize("name", [".git", "__pycache__", "empty"])
def test_no_folder_can_be_added(folder, key, name):
    (folder / name).mkdir()
    refused(folder, key, "not in the manifest")
    (folder / name / "x").write_text("")
    refused(folder, key, "not in the manifest")


def test_a_signature_of_another_artifact_of_the_same_key_is_refused(folder, home, key, tmp_path):
    other = tiny(seed=2).save(tmp_path / "other")
    sign(other, home / "ours" / PRIVATE)
    shutil.copy(other / SIGNATURE, folder / SIGNATURE)
    refused(folder, key, "not the files that key")


def test_an_artifact_too_large_to_be_read_is_refused_at_once(folder, key):
    with open(folder / "model.safetensors", "ab") as file:
        file.truncate(1 << 40)
    refused(folder, key, "more than the 17179869184 allowed here")


def test_what_is_no_artifact_is_refused(key, tmp_path):
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
def test_a_signature_file_that_is_none_is_refused(folder, key, name):
    (folder / SIGNATURE).write_bytes(SIGNATURES[name])
    refused(folder, key, "signature does not match key" if name in ("nothing signed", "noise") else SIGNATURE)


def test_a_signature_file_that_is_huge_a_link_a_folder_or_a_pipe_is_refused(folder, key, tmp_path):
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


def test_no_change_of_what_is_signed_passes(folder, key):
    "A hundred changed bits of the list or the signature."
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
    "A true signature by the owner of the key that leaves out the model card and the manifest, as other signers may."
    config = model_signing.hashing.Config().set_ignored_paths(paths=["README.md", "MANIFEST.json", SIGNATURE])
    model_signing.signing.Config().use_elliptic_key_signer(private_key=private).set_hashing_config(config).sign(folder, folder / SIGNATURE)


@pytest.mark.parametrize("spelling", ["dsse_envelope", "dsseEnvelope"])
def test_a_second_spelling_of_a_key_cannot_show_two_readers_two_things(folder, home, key, spelling):
    "model-signing reads dsse_envelope too: a true list under one name and a longer, forged one under the other."
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
    "A true signature of whatever the owner of the key signs."
    head = b"DSSEv1 28 application/vnd.in-toto+json %d " % len(payload)
    signature = read_private_key(private).sign(head + payload, ec.ECDSA(hashes.SHA256()))
    rewrite(folder, lambda content: content["dsseEnvelope"].update(payload=base64.b64encode(payload).decode(), signatures=[{"sig": base64.b64encode(signature).decode()}]))


@pytest.mark.parametrize("payload", [b"", b"7", b"[]", b"{}", b"[" * 100_000, b'{"_type": "https://in-toto.io/Statement/v1"}', b"\xff", b"null",
                                     b'{"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1", "subject": []}',
                                     b'{"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://model_signing/signature/v1.0", "subject": [7]}'])
def test_whatever_else_the_owner_of_the_key_signed_is_no_signature_of_the_artifact(folder, home, key, payload):
    signed_by_hand(folder, home / "ours" / PRIVATE, payload)
    refused(folder, key, "not the files that key")


def test_a_list_that_leaves_a_file_out_or_ignores_it_is_refused(folder, home, key):
    "Other signers may leave files out; an attacker could then exchange those."
    partly_signed(folder, home / "ours" / PRIVATE)
    refused(folder, key, "not signed by key", "MANIFEST.json; README.md")
    signed = json.loads(base64.b64decode(json.loads((folder / SIGNATURE).read_text())["dsseEnvelope"]["payload"]))
    signed["predicate"]["serialization"]["ignore_paths"] = ["."]
    signed_by_hand(folder, home / "ours" / PRIVATE, json.dumps(signed).encode())
    refused(folder, key, "not the files that key")


# signing


def test_what_its_manifest_does_not_describe_is_not_signed(folder, home, key):
    for spoil in (lambda: (folder / "notes.txt").write_text("mine"), lambda: (folder / "README.md").write_text("better")):
        before = (folder / SIGNATURE).read_bytes()
        spoil()
        with pytest.raises(ArtifactError, match="notes.txt|README.md"):
            sign(folder, home / "ours" / PRIVATE)
        assert (folder / SIGNATURE).read_bytes() == before
        (folder / "notes.txt").unlink(missing_ok=True)


def test_a_manifest_that_lists_the_signature_is_refused_before_it_is_made_wrong(folder, home):
    write_manifest(folder)
    with pytest.raises(ArtifactError, match="the manifest lists model.sig"):
        sign(folder, home / "ours" / PRIVATE)
    Classifier.load(folder)


def test_signing_again_replaces_the_signature(folder, home, key):
    sign(folder, home / "theirs" / PRIVATE)
    refused(folder, key, "signature does not match key")
    assert verify(folder, home / "theirs" / PUBLIC) == fingerprint(read_public_key(home / "theirs" / PUBLIC))


def test_a_signature_tells_nothing_of_the_place_it_was_made_in(folder):
    content = (folder / SIGNATURE).read_text()
    signed = json.loads(base64.b64decode(json.loads(content)["dsseEnvelope"]["payload"]))
    assert signed["subject"][0]["name"] == "classifier" and str(folder.parent) not in json.dumps(signed)
    assert {resource["name"] for resource in signed["predicate"]["resources"]} == set(os.listdir(folder)) - {SIGNATURE}


def test_a_folder_that_cannot_be_written_to_says_so(folder, home):
    (folder / SIGNATURE).unlink()
    (folder / SIGNATURE).symlink_to(folder / "README.md")
    with pytest.raises(ConfigError, match="not a regular file"):
        sign(folder, home / "ours" / PRIVATE)
    assert "How to use it" in (folder / "README.md").read_text()


# time of check, time of use


def test_what_is_loaded_is_what_was_verified_even_when_the_folder_is_exchanged_in_between(folder, key, monkeypatch):
    load = Classifier.load
    monkeypatch.setattr(Classifier, "load", lambda place: (attacked(folder), load(place))[1])
    assert load_signed(folder, key).predict(PICTURE) == tiny().predict(PICTURE)
    assert load(folder).predict(PICTURE) == tiny(seed=2).predict(PICTURE)


def test_what_is_exchanged_between_the_manifest_and_the_copy_is_refused(folder, key, monkeypatch):
    alone = signatures._check_alone
    monkeypatch.setattr(signatures, "_check_alone", lambda place: (alone(place), attacked(folder))[0])
    with pytest.raises(ArtifactError, match="not the files that key"):
        load_signed(folder, key)


def test_the_private_copy_is_for_its_owner_and_is_gone_afterwards(folder, home, key, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before, seen, load = set(tmp_path.iterdir()), [], Classifier.load
    monkeypatch.setattr(Classifier, "load", lambda place: (seen.append(place.parent.stat().st_mode & 0o777), load(place))[1])
    load_signed(folder, key)
    sign(folder, home / "ours" / PRIVATE)
    attacked(folder)
    with pytest.raises(ArtifactError):
        load_signed(folder, key)
    assert seen == [0o700] and set(tmp_path.iterdir()) == before


def test_what_the_owner_signed_is_still_read_as_data(folder, home, key):
    "A signature does not switch off the loader's own checks, and the line names the folder, not the copy."
    description = json.loads((folder / "classifier.json").read_text())
    (folder / "classifier.json").write_text(json.dumps(description | {"temperature": 0}))
    (folder / SIGNATURE).unlink()
    write_manifest(folder)
    sign(folder, home / "ours" / PRIVATE)
    verify(folder, key)
    with pytest.raises(ArtifactError, match="temperature must be") as caught:
        load_signed(folder, key)
    assert caught.value.where == folder


# the house


def test_nothing_is_sent_anywhere(folder, home, key, monkeypatch):
    def nobody(*_, **__):
        raise AssertionError("a connection was tried")
    monkeypatch.setattr(socket.socket, "connect", nobody)
    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    sign(folder, home / "ours" / PRIVATE)
    assert verify(folder, key)


def test_verifying_prints_nothing_and_needs_no_torch(folder, key):
    program = f"import sys\nfrom image_classifier.inference.signing import verify\nverify({str(folder)!r}, {str(key)!r})\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("missing", ["model_signing", "OpenSSL", "cryptography"])
def test_without_the_extra_the_line_names_it(folder, home, tmp_path, monkeypatch, missing):
    for name in [name for name in sys.modules if name.split(".")[0] == missing]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match="pip install 'image_classifier\\[sign\\]'"):
        sign(folder, home / "ours" / PRIVATE)


def test_the_tool_of_the_format_reads_ours_and_we_read_its(folder, home, key, tmp_path):
    def tool(*words):
        return subprocess.run([sys.executable, "-m", "model_signing", *map(str, words)], capture_output=True, text=True, cwd=tmp_path)
    assert tool("verify", "key", folder, "--signature", folder / SIGNATURE, "--public_key", key).returncode == 0
    assert tool("verify", "key", folder, "--signature", folder / SIGNATURE, "--public_key", home / "theirs" / PUBLIC).returncode != 0
    model_signing.verifying.Config().use_elliptic_key_verifier(public_key=key).verify(folder, folder / SIGNATURE)
    (folder / SIGNATURE).unlink()
    made = tool("sign", "key", folder, "--signature", folder / SIGNATURE, "--private_key", home / "ours" / PRIVATE)
    assert made.returncode == 0, made.stderr
    assert verify(folder, key) == fingerprint(read_public_key(key))
    assert load_signed(folder, key).classes == ("cat", "dog", "owl")


def test_a_signature_by_an_openssl_key_is_read(folder, tmp_path):
    if not shutil.which("openssl"):
        pytest.skip("no openssl")
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", tmp_path / "p.pem"], check=True)
    subprocess.run(["openssl", "ec", "-in", tmp_path / "p.pem", "-pubout", "-out", tmp_path / "k.pem"], check=True, capture_output=True)
    sign(folder, tmp_path / "p.pem")
    assert verify(folder, tmp_path / "k.pem")
