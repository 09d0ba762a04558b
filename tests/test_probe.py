"Few photos: cached features are those of the network, nothing in the cache changes a result, and a probe fits any data it can be fitted to."
import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from image_classifier.cli import main
from image_classifier.core import acquire_lock, ArtifactError, ConfigError, DataError, ResourceError
from image_classifier.data import cache_entries, Dataset, evict, FEATURES, Preprocess, stratified_rows
from image_classifier.metrics import cross_entropy_per_image
from image_classifier.models import build_model, find_classifier
from image_classifier.training import body_hash, choose_neighbors, compute_features, extract_features, features as features_module
from image_classifier.training import probe as probe_module
from image_classifier.training import fit_probe, nearest_neighbors, refit, set_head
from image_classifier.training.probe import _Path, _training_folds, STRENGTHS

PREPROCESS = Preprocess(16, 3, "crop", (0.5,) * 3, (0.25,) * 3)


def random_images(n=50, seed=0, classes=2):
    "Return random images of 16 pixels."
    rng = np.random.default_rng(seed)
    names = tuple(f"class{number}" for number in range(classes))
    return Dataset(rng.integers(0, 256, (n, 3, 16, 16), np.uint8), rng.integers(0, classes, n), names, tuple(map(str, range(n))))


@pytest.fixture
def network():
    return build_model("resnet", classes=2, channels=3, size=16)


@pytest.fixture
def cache(network, tmp_path):
    "A function that extracts features with a cache in the test's folder."
    key = body_hash(network)
    def extract(images, **changes):
        return extract_features(**{"model": network, "dataset": images, "preprocess": PREPROCESS, "key": key, "cache_dir": tmp_path / "cache", **changes})
    return extract


@pytest.fixture
def computed(monkeypatch):
    "The rows of each call that computes, from now on."
    rows, compute = [], features_module.compute_features
    def _record(*arguments, **options):
        rows.append(list(options.get("rows", ())))
        return compute(*arguments, **options)
    monkeypatch.setattr(features_module, "compute_features", _record)
    return rows


def lines(work):
    "Return the result of `work` and its warnings."
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = work()
    return result, [str(one.message) for one in caught]


def only_part(tmp_path):
    return next((tmp_path / "cache" / "features").glob("*/*.safetensors"))


# features


def test_features_times_head_are_the_logits_and_nothing_else_changes(network):
    images = random_images(45)
    network.train()
    frozen = next(layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    generator = torch.get_rng_state()
    features = compute_features(network, images, PREPROCESS)
    assert network.training and not frozen.training and torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert not any(layer._forward_pre_hooks for layer in network.modules())
    network.eval()
    with torch.no_grad():
        logits = network(torch.from_numpy(PREPROCESS.normalize(images.images)))
        assert torch.allclose(network.get_submodule(find_classifier(network))(torch.from_numpy(features)), logits, atol=1e-4)


def test_features_of_an_image_do_not_depend_on_the_others(network):
    images = random_images(70)
    features = compute_features(network, images, PREPROCESS)
    rows = np.random.default_rng(1).permutation(70)
    assert np.array_equal(compute_features(network, images.select(rows), PREPROCESS), features[rows])
    assert np.array_equal(compute_features(network, images, PREPROCESS, rows=rows[:33]), features[rows[:33]])


def test_equal_images_are_computed_once_and_tensors_are_images_too(cache, computed):
    images = random_images(20).select([0, 1, 2, 0, 1, 0])
    found = cache(images)
    assert computed == [[0, 1, 2]] and np.array_equal(found[0], found[5])
    tensors = replace(images, images=torch.from_numpy(np.ascontiguousarray(images.images)))
    assert np.array_equal(cache(tensors), found) and len(computed) == 1


def test_other_weights_or_inputs_have_other_features(network, cache, computed):
    images = random_images(10)
    first = cache(images)
    torch.nn.init.ones_(network.get_submodule(find_classifier(network)).bias)
    assert np.array_equal(cache(images, key=body_hash(network)), first) and len(computed) == 1
    cache(images, preprocess=replace(PREPROCESS, mean=(0.4,) * 3))
    cache(images, precision=torch.bfloat16)
    next(iter(network.buffers())).add_(0.5)  # of a batch normalization
    assert not np.array_equal(cache(images, key=body_hash(network)), first) and len(computed) == 4


@pytest.mark.parametrize("spoil", [lambda network: next(network.buffers()).fill_(float("nan")), lambda network: next(network.parameters()).data.fill_(3e38)])
def test_features_that_are_not_finite_never_reach_the_cache(network, cache, tmp_path, spoil):
    "NaN and overflow: the weights are to blame, not the images and not the cache."
    spoil(network)
    for _ in range(2):
        with pytest.raises(ArtifactError) as problem, warnings.catch_warnings():
            warnings.simplefilter("error")  # no word about damage in the cache
            cache(random_images(10), key=body_hash(network))
        assert "the weights of" in str(problem.value) and "give features that are not finite (model.weights). use others" in str(problem.value)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_settings_without_tensors_belong_to_the_hash():
    def network(stride):
        return nn.Sequential(nn.Conv2d(3, 4, 3, stride), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    one, two = network(1), network(2)
    two.load_state_dict(one.state_dict())
    assert body_hash(one) != body_hash(two)


def test_a_head_that_gets_more_than_one_vector_is_refused():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.head = nn.Parameter(torch.ones(())), nn.Linear(16, 2)

        def forward(self, inputs):
            return self.head(inputs.mean(1) * self.scale).mean(1)
    model = Tokens()
    with pytest.raises(ConfigError, match="one feature vector for each image"):
        compute_features(model, random_images(3), PREPROCESS)
    assert not model.head._forward_pre_hooks


@pytest.mark.parametrize("damage", [
    lambda path: path.write_bytes(path.read_bytes()[:-7]), lambda path: path.write_bytes(b""), lambda path: path.write_text("mine"),
    lambda path: path.write_bytes(path.read_bytes()[:-900] + bytes([path.read_bytes()[-900] ^ 1]) + path.read_bytes()[-899:]),
    lambda path: (path.unlink(), path.mkdir()), lambda path: (path.unlink(), path.symlink_to("nowhere"))])
def test_a_damaged_part_costs_time_and_one_warning(cache, computed, tmp_path, damage):
    images = random_images(10)
    whole = cache(images)
    damage(only_part(tmp_path))
    found, warned = lines(lambda: cache(images))
    assert np.array_equal(found, whole) and [line.split(" (")[0] for line in warned] == ["features in the cache are damaged; computing them again"]
    assert lines(lambda: cache(images))[1] in ([], warned) and len(computed) == 2


def test_after_an_interrupt_only_the_rest_is_computed(cache, computed, monkeypatch):
    images = random_images(50)
    monkeypatch.setattr(features_module, "_PART", 20)
    def stop(done, count):
        if done > 20:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        cache(images, progress=stop)
    found = cache(images)
    assert computed[2:] == [list(range(20, 40)), list(range(40, 50))]
    assert np.array_equal(found, cache(images, key=None))


def test_of_two_that_need_the_same_features_one_computes_them(cache, computed, tmp_path, monkeypatch):
    images = random_images(10)
    cache(images.select([0]))
    lock = acquire_lock(only_part(tmp_path).with_name("features.lock"), exclusive=True)
    results = []
    waiting = threading.Thread(target=lambda: results.append(cache(images)))
    waiting.start()
    waiting.join(timeout=0.3)
    assert waiting.is_alive() and not results
    lock.close()
    waiting.join(timeout=60)
    assert np.array_equal(results[0], cache(images)) and len(computed) == 2


def test_a_full_disk_costs_a_warning_and_no_features(cache, tmp_path, monkeypatch):
    def full(*arguments):
        raise ResourceError("the disk is full", tmp_path)
    monkeypatch.setattr(features_module, "save_tensors", full)
    monkeypatch.setattr(features_module, "_PART", 4)
    images = random_images(10)
    found, warned = lines(lambda: cache(images))
    assert np.array_equal(found, cache(images, key=None)) and len(warned) == 1 and "the features are not cached: the disk is full" in warned[0]


def test_a_cache_folder_that_is_a_file_costs_a_warning_and_no_features(cache, tmp_path):
    (tmp_path / "cache").write_text("mine")
    found, warned = lines(lambda: cache(random_images(5)))
    assert len(found) == 5 and len(warned) == 1 and (tmp_path / "cache").read_text() == "mine"


def test_features_that_were_used_least_recently_make_room(network, cache, tmp_path):
    cache(random_images(5))
    size = sum(entry.bytes for entry in cache_entries(tmp_path / "cache", [FEATURES]))
    evict(tmp_path / "cache", 1000, limit=size + 1000)
    assert len(cache_entries(tmp_path / "cache")) == 1
    evict(tmp_path / "cache", 1001, limit=size + 1000)
    assert not cache_entries(tmp_path / "cache")


def test_ic_cache_lists_and_clears_features_and_leaves_foreign_files(cache, tmp_path, capsys):
    cache(random_images(5))
    folder = only_part(tmp_path).parent
    (folder / "notes.txt").write_text("mine")
    assert main(["cache", f"data.cache_dir={tmp_path / 'cache'}"]) == 0
    assert "features" in (text := capsys.readouterr().out) and "resnet at 16 px" in text
    assert main(["cache", "clear", f"data.cache_dir={tmp_path / 'cache'}"]) == 0
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    cache(random_images(5))
    (folder / "notes.txt").unlink()
    assert main(["cache", "clear", f"data.cache_dir={tmp_path / 'cache'}"]) == 0
    assert not folder.exists()


# probe


def clusters(counts, features=60, spread=1.0, seed=0):
    "Return features and targets of classes of these sizes: normal distributions around random centers."
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(len(counts), features))
    targets = np.repeat(np.arange(len(counts)), counts)
    return (centers[targets] + spread * rng.normal(size=(len(targets), features))).astype(np.float32), targets


def names(count):
    return [f"class{number}" for number in range(count)]


@pytest.mark.parametrize("counts", [(30, 30), (200, 3), (7,) * 10, (2,) * 100, (300, 200, 100)])
def test_the_probe_is_the_exact_minimum(counts):
    known, valid = clusters(counts, spread=3.0), clusters([2] * len(counts), spread=3.0, seed=1)
    probe = refit(fit_probe(*known, *valid, names(len(counts))), *known, *valid)
    features, targets = (np.concatenate(both) for both in zip(known, valid))
    scaled = lambda values: (values - features.mean(0)) / features.std(0)
    theirs = LogisticRegression(C=1 / (len(targets) * probe.strength), tol=1e-10, max_iter=20_000).fit(scaled(features), targets)
    expected = theirs.decision_function(scaled(valid[0]))
    found = probe.logits(valid[0])
    if len(counts) == 2:  # scikit-learn has one row of weights w for two classes, penalized by w*w; ours has w/2 and -w/2
        theirs = LogisticRegression(C=2 / (len(targets) * probe.strength), tol=1e-10, max_iter=20_000).fit(scaled(features), targets)
        expected, found = theirs.decision_function(scaled(valid[0])), found[:, 1] - found[:, 0]
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()


def test_the_same_features_give_the_same_bits_however_they_lie_in_memory():
    (features, targets), valid = clusters((20, 20, 20)), clusters((4, 4, 4), seed=1)
    first = fit_probe(features, targets, *valid, names(3))
    padded = np.zeros((60, 61), np.float32)
    padded[:, 1:] = features
    for same in (np.asfortranarray(features), padded[:, 1:]):
        again = fit_probe(same, targets, np.asfortranarray(valid[0]), valid[1], names(3))
        assert again.weight.tobytes() == first.weight.tobytes() and again.valid_logits.tobytes() == first.valid_logits.tobytes()


def test_perfect_validation_does_not_drive_the_strength_to_the_end():
    known, valid = (clusters((60, 60), features=100, spread=8.0, seed=seed) for seed in (0, 1))
    right = fit_probe(*known, *known, names(2))  # any classifier has all of these right
    few = np.flatnonzero(right.logits(valid[0]).argmax(1) == valid[1])[:8]
    probe = fit_probe(*known, valid[0][few], valid[1][few], names(2))
    assert probe.valid_accuracy > 0.8 and probe.strength > 0.1


@pytest.mark.parametrize("held", [0, 1, 3])
@pytest.mark.parametrize("counts", [(1, 1), (1,) * 12, (6, 6), (1, 11), (40, 1, 2)])
def test_few_photos_are_fitted(counts, held):
    known, valid = clusters(counts), clusters([held] + [0] * (len(counts) - 1), seed=1)  # validation has one class at most
    probe = refit(fit_probe(*known, *valid, names(len(counts))), *known, *valid)
    assert (probe.logits(known[0]).argmax(1) == known[1]).all() and np.isfinite(probe.weight).all()
    assert (probe.valid_loss is None) == (held == 0) and probe.valid_logits.shape == (held, len(counts))


def test_images_of_one_unit_are_held_out_together():
    rng = np.random.default_rng(0)
    faces = rng.normal(size=(20, 300)).astype(np.float32)  # twenty people, whose class is by chance, with six pictures each
    features = np.repeat(faces, 6, axis=0) + 0.01 * rng.normal(size=(120, 300)).astype(np.float32)
    targets, people = np.repeat(np.arange(20) % 2, 6), np.repeat(np.arange(20), 6)
    order = rng.permutation(120)
    features, targets, people = features[order], targets[order], people[order]
    units = np.array([np.flatnonzero(people == person)[0] for person in people])
    none = features[:0], targets[:0]
    apart, together = (fit_probe(features, targets, *none, names(2), units=given) for given in (None, units))
    assert max(result.accuracy for result in apart.curve) == 1 and max(result.accuracy for result in together.curve) < 0.8


def test_a_unit_with_images_of_several_classes_is_held_out_whole_or_never():
    targets, units = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2]), np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 3, 3])  # class 2 is one unit, with an image of 0
    fold = _training_folds(targets, units)
    assert all(len(set(fold[units == unit])) == 1 for unit in units) and fold[3] == -1 and fold[0] > 0


def test_the_curve_is_that_of_exact_fits_for_weak_strengths_too(monkeypatch):
    known, valid = clusters((40, 40, 40), spread=4.0), clusters((15, 15, 15), spread=4.0, seed=1)
    def losses():
        path, found = _Path(*known, np.ones(120), valid[0], 3), []
        for strength in STRENGTHS:
            path.fit(strength)
            found.append(cross_entropy_per_image(path.logits(path.held_out), valid[1]).mean())
        return np.array(found)
    quick, fit = losses(), _Path.fit
    monkeypatch.setattr(_Path, "fit", lambda path, strength: fit(path, strength, 1e-9))
    assert np.abs(quick / losses() - 1).max() < 0.02


def test_many_images_choose_the_strength_by_a_share_of_each_class_and_are_all_fitted(monkeypatch):
    known, valid = clusters((1500, 700, 3), spread=4.0), clusters((30, 20, 2), spread=4.0, seed=1)
    whole = fit_probe(*known, *valid, names(3))
    monkeypatch.setattr(probe_module, "_SEARCHED", 500)
    monkeypatch.setattr(probe_module, "_COMPARED", 500)
    few = stratified_rows(known[1], 500)
    assert np.bincount(known[1][few]).tolist() == [341, 159, 1] and (np.diff(few) > 0).all()
    found = fit_probe(*known, *valid, names(3))
    assert abs(np.log10(found.strength / whole.strength)) <= 1
    path = _Path(*known, np.ones(2203), valid[0], 3)
    path.fit(found.strength, 1e-7)
    assert np.abs(path.linear()[0] - found.weight).max() < 1e-3 * np.abs(found.weight).max()
    assert choose_neighbors(*known, *valid) == choose_neighbors(known[0][few], known[1][few], *valid)


def test_class_weights_count_as_copies_of_images():
    (features, targets), valid = clusters((4, 40), spread=4.0), clusters((10, 10), spread=4.0, seed=1)
    rows = np.concatenate([np.repeat(np.arange(4), 10), np.arange(4, 44)])
    none = features[:0], targets[:0]
    weighted = fit_probe(features, targets, *none, names(2), class_weights=(10, 1))
    copied = fit_probe(features[rows], targets[rows], *none, names(2), units=np.searchsorted(rows, rows))
    plain = fit_probe(features, targets, *none, names(2))
    recall = [(probe.logits(valid[0])[:10].argmax(1) == 0).mean() for probe in (plain, weighted, copied)]
    assert recall[0] < recall[1] and abs(recall[1] - recall[2]) <= 0.3


@pytest.mark.parametrize("change, words", [
    (lambda features, targets: (features[:, 0], targets), "do not match"), (lambda features, targets: (features, targets[:-1]), "do not match"),
    (lambda features, targets: (features * np.nan, targets), "not finite"), (lambda features, targets: (features, targets + 1), "from 0 to 1"),
    (lambda features, targets: (features, targets * 0), "no training image of class1"), (lambda features, targets: (features[:0], targets[:0]), "class0; class1")])
def test_what_cannot_be_fitted_has_one_line(change, words):
    known = clusters((5, 5))
    with pytest.raises(DataError) as caught:
        fit_probe(*change(*known), *known, names(2))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_network_with_the_probe_predicts_as_the_probe(network):
    images, test = random_images(60), random_images(20, seed=5)
    features = compute_features(network, images, PREPROCESS)
    probe = fit_probe(features[:50], images.targets[:50], features[50:], images.targets[50:], images.classes)
    set_head(network, probe)
    network.eval()
    with torch.no_grad():
        logits = network(torch.from_numpy(PREPROCESS.normalize(test.images))).numpy()
    assert np.abs(logits - probe.logits(compute_features(network, test, PREPROCESS))).max() < 1e-3


def test_neighbors_with_empty_features_ties_and_few_images():
    features, targets = np.float32([[0, 0], [1, 0], [0, 1]]), np.array([2, 1, 0])
    assert nearest_neighbors(features, targets, np.float32([[0, 2], [3, 0.1]]), 1).tolist() == [0, 1]
    assert nearest_neighbors(features, targets, np.float32([[0, 2]]), 99).tolist() == [0]  # one vote each
    assert choose_neighbors(features, targets, features[:0], targets[:0]) == (3, None)
    assert choose_neighbors(features, targets, features[1:], targets[1:]) == (3, 1.0)
    assert nearest_neighbors(features, targets, features[:0], 3).shape == (0,)
