"Pretrained weights: right to the last bit, from files whose hash is known, for any classes and channels; damage and absence are one clear line."
import shutil
import sys
import tarfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from image_classifier.core import ArtifactError, ConfigError
from image_classifier.data import cache_entries, Preprocess, remove_entry, WEIGHTS
from image_classifier.models import adopt_normalization, Architecture, build_model, find_classifier, load_pretrained, packaged_weights
from image_classifier.models import PACKAGED, pretrained_weights, published_tensors
from image_classifier.models import published

LITE0 = Architecture("efficientnet_lite0", classes=3, size=64)
needs_weights = pytest.mark.skipif(not packaged_weights(), reason="the extra pretrained is not installed")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    "A cache that holds the converted weights."
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


# The right network


@needs_weights
def test_logits_are_those_of_timm_to_the_last_bit(imagenet):
    timm = pytest.importorskip("timm")
    other = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    own = imagenet.state_dict()
    other.load_state_dict(dict(zip(other.state_dict(), own.values(), strict=True)))
    with torch.no_grad():
        for size in (32, 97, 128, 224):
            inputs = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(size)) * 2 - 1
            assert torch.equal(imagenet(inputs), other(inputs)), size


BEES, ANTS = {309}, {310}  # of ImageNet's classes


@needs_weights
def test_photos_of_bees_and_ants_are_recognized(imagenet, data_dir):
    weights = pretrained_weights("efficientnet_lite0")
    preprocess = Preprocess(weights.size, 3, "crop", weights.mean, weights.std)
    archive = data_dir / "hymenoptera.tar.gz"
    if not archive.is_file():
        pytest.skip("no hymenoptera.tar.gz")
    wanted = {"ants": 310, "bees": 309}
    right, seen = 0, 0
    with tarfile.open(archive) as tar:
        for member in tar:
            kind = Path(member.name).parent.name
            if seen == 16:
                break
            if "/val/" in member.name and member.isfile() and kind in wanted and member.name.endswith("0.jpg"):
                pixels = preprocess.pixels(tar.extractfile(member).read())
                with torch.no_grad():
                    logits = imagenet(torch.from_numpy(preprocess.normalize(pixels))[None])
                right, seen = right + (int(logits.argmax()) == wanted[kind]), seen + 1
    print(right, seen)
    assert right >= 0.6 * seen > 0
