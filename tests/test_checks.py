"What a user loses when data is not checked: a test set that leaks, contradictory labels, days of training on damaged files."
import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from folders import folder, picture, save, warned
from PIL import Image, ImageEnhance, ImageOps

from image_classifier.cli import main
from image_classifier.config import compose, DataConfig
from image_classifier.data import load_data, pixel_digests, read_exclude_list, read_source
from image_classifier.quality import (candidate_pairs, check_source, check_splits, descriptors, find_near_duplicates,
                                      leaked_test_images, pair_distances, thumbnails)
from image_classifier.runs import train


def noisy(image, seed):
    pixels = np.asarray(image) + np.random.default_rng(seed).normal(0, 8, (28, 28))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def compressed(image, seed):
    image.save(file := io.BytesIO(), "JPEG", quality=60)
    return Image.open(file).convert("L")


NEAR = {"darker": lambda image, seed: ImageEnhance.Brightness(image).enhance(0.8), "noisy": noisy, "compressed": compressed,
        "shifted": lambda image, seed: image.transform(image.size, Image.Transform.AFFINE, (1, 0, 1, 0, 1, 1)),
        "rotated": lambda image, seed: image.rotate(1, Image.Resampling.BILINEAR)}


@pytest.fixture(scope="session")
def planted(data_dir, tmp_path_factory):
    "2,000 digits as files: 50 test images equal training images, 50 nearly do, 20 are damaged and one class is empty."
    if not next(data_dir.glob("mnist*"), None):
        pytest.skip("no MNIST in the folder of real data")
    root = tmp_path_factory.mktemp("planted")
    archive = root / "mnist"
    shutil.unpack_archive(next(data_dir.glob("mnist*.tar.gz")), archive, filter="data")
    found = read_source(DataConfig("mnist", str(next(archive.rglob("train-images*")).parent)))
    rows = np.random.default_rng(0).permutation(60_000)[:1900]
    names, original = [], {}
    for number, row in enumerate(rows.tolist()):
        part, image = "test" if number >= 1500 else "train", Image.fromarray(found.images[row, 0])
        names.append(f"{part}/{found.targets[row]}/{number:04}.png")
        original[names[-1]] = image
        save(root / "data" / names[-1], image)
    equal, near = {}, {}
    for number in range(100):
        source = names[number]
        label = source.split("/")[1]
        kind = list(NEAR)[number % 5] if number >= 50 else ""
        copy = f"test/{label}/{'near' if kind else 'equal'}{number}.png"
        save(root / "data" / copy, NEAR[kind](original[source], number) if kind else original[source])
        (near if kind else equal)[copy] = source
    damaged = names[200:220]
    for number, name in enumerate(damaged):
        data = (root / "data" / name).read_bytes()
        (root / "data" / name).write_bytes([b"", data[:60], b"text, not an image", data[:-20]][number % 4])
    (root / "data" / "train" / "ten").mkdir()
    return root / "data", equal, near, set(damaged)


def test_planted_faults_are_found_with_few_false_alarms(planted, tmp_path):
    root, equal, near, damaged = planted
    found = check_source(folder(root, cache_dir=str(tmp_path)))
    assert dict(found["equal images in two splits"].images) == equal
    assert {name for name, in found["unreadable images"].images} == damaged
    assert found["missing classes"].what.startswith("class 'ten' has no images")
    reported = dict(found["near duplicates of test images"].images)
    correct = sum(near.get(first) == second for first, second in reported.items())
    assert correct >= 45 and correct / len(reported) >= 0.9, (correct, len(reported))
    assert {one.kind for one in found.findings} <= {
        "equal images in two splits", "unreadable images", "missing classes", "near duplicates of test images",
        "near duplicates within a split"}
    assert len(found.facts.path) == 1980 and set(found.facts.width) == {28}


def test_exclude_list_makes_planted_data_trainable(planted, tmp_path, capsys):
    root, equal, near, damaged = planted
    shutil.copytree(root, tmp_path / "data")
    words = [f"data={tmp_path}/data", f"data.cache_dir={tmp_path}/cache", "check_near_duplicates=false"]
    assert main(["check", *words, "--out", str(tmp_path / "out.txt")]) == 3
    out, err = capsys.readouterr()
    assert "equal images in two splits" in out and err.count("error: ") == 1 and "splits train, test" in err.splitlines()[0]
    assert "would refuse this data: unreadable images; missing classes; equal images" in err
    (tmp_path / "data" / "train" / "ten").rmdir()
    assert main(["check", *words, f"data.exclude={tmp_path}/out.txt", "--json"]) == 0
    found = json.loads(capsys.readouterr()[0])
    assert found["accepted"] and not found["findings"]
    assert len(load_data(folder(tmp_path / "data", exclude=str(tmp_path / "out.txt"))).test) == 450


def with_leaks(root, **options):
    "Write pictures of 24 pixels to train and test; three test pictures nearly repeat training pictures."
    for part in ("train", "test"):
        for number in range(20):
            image = smooth(number if part == "train" else 100 + number)
            save(root / part / ("cat" if number % 2 else "dog") / f"{number}.png", image)
    for number in (2, 3, 4):
        image = ImageEnhance.Brightness(smooth(number)).enhance(0.9)
        save(root / "test" / ("cat" if number % 2 else "dog") / f"{number}.png", image)
    return folder(root, **options)


def smooth(seed):
    "A smooth random picture, different for each seed."
    return picture(seed, 6).resize((24, 24), Image.Resampling.BICUBIC)


def test_run_counts_near_duplicates_of_test_images(tmp_path):
    with_leaks(tmp_path / "data")
    config = compose([f"data={tmp_path}/data", f"data.cache_dir={tmp_path}/cache", "epochs=1", "batch_size=8", "device=cpu"])
    with pytest.warns(UserWarning, match="data check: near duplicates of test images: 3 "):
        run = train(config, tmp_path / "run")
    assert run.metrics["data"]["test_seen"] == 3


def test_near_duplicates_are_searched_only_on_request(tmp_path):
    splits = load_data(with_leaks(tmp_path / "data", cache_dir=str(tmp_path / "cache")))
    assert check_splits(splits)["near duplicates of test images"].count == 3
    assert not check_splits(splits, near_duplicates=False).findings
    assert leaked_test_images(check_splits(splits), splits.test.ids) == 3


def test_damaged_cached_report_is_made_again(tmp_path):
    splits = load_data(with_leaks(tmp_path / "data", cache_dir=str(tmp_path / "cache")))
    first = check_splits(splits)
    kept, = (tmp_path / "cache" / "checks").glob("[!.]*")
    for text in ("", "{}", "[1]", '{"format": 2}', '{"format": 1}', "\0", kept.read_text()[:-9],
                 '{"format": 2, "name": 1, "findings": 3, "notes": 4, "facts": 5}'):
        kept.write_text(text)
        assert check_splits(splits) == first
    kept.unlink()
    kept.mkdir()
    assert check_splits(splits) == first


def test_unwritable_cache_only_costs_time(tmp_path):
    splits = load_data(with_leaks(tmp_path / "data", cache_dir=str(tmp_path / "cache")))
    (tmp_path / "cache").write_text("a file where a folder should be")
    assert check_splits(splits) == check_splits(splits)


def test_resume_names_the_image_that_changed(tmp_path):
    data = with_leaks(tmp_path / "data", cache_dir=str(tmp_path / "cache"))
    config = compose([f"data={data.root}", f"data.cache_dir={data.cache_dir}", "epochs=1", "batch_size=8", "device=cpu",
                      "check_near_duplicates=false"])
    train(config, tmp_path / "run")
    image = Image.open(tmp_path / "data" / "train" / "cat" / "7.png")
    image.putpixel((3, 3), (1, 2, 3))
    image.save(tmp_path / "data" / "train" / "cat" / "7.png")
    with pytest.raises(Exception, match="the data has changed since the run was made: train/cat/7.png has changed") as caught:
        train(config, tmp_path / "run")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("images", [
    np.zeros((0, 3, 32, 32), np.uint8), np.zeros((1, 1, 32, 32), np.uint8), np.zeros((500, 3, 16, 16), np.uint8),
    np.full((500, 4, 33, 33), 255, np.uint8),
    np.arange(250, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 20, 20), np.uint8)])
def test_images_without_content_have_no_duplicates(images):
    assert len(find_near_duplicates(images, pixel_digests(images))[0]) == 0


def test_video_of_a_static_scene_takes_bounded_time():
    scene = np.random.default_rng(0).integers(40, 200, (1, 1, 32, 32)).repeat(3000, 0)
    film = (scene + np.random.default_rng(1).integers(0, 3, scene.shape)).astype(np.uint8)
    assert len(candidate_pairs(descriptors(film))) <= 3000 * 10
    assert len(find_near_duplicates(film, pixel_digests(film))[0]) > 3000


def _scene(seed, side=100):
    "A blurred random picture."
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)).resize((side, side), Image.Resampling.BICUBIC)


def _crop(image):
    "The middle of a picture without a twentieth of its sides, enlarged."
    edge = image.width / 40
    return image.transform(image.size, Image.Transform.EXTENT, (edge, edge, image.width - edge, image.height - edge), Image.Resampling.BILINEAR)


COPIES = {"shift by 2": lambda image: image.transform(image.size, Image.Transform.AFFINE, (1, 0, 2, 0, 1, 2)),
          "gray": lambda image: image.convert("L").convert("RGB"), "crop of 95 %": _crop,
          "turn by 5 degrees": lambda image: image.rotate(5, Image.Resampling.BILINEAR),
          "mirrored, gray and darker": lambda image: ImageOps.mirror(image).convert("L").convert("RGB").point(lambda value: value * 0.7),
          "cropped and turned": lambda image: _crop(image).rotate(3, Image.Resampling.BILINEAR)}


@pytest.mark.parametrize("side", [32, 100])
@pytest.mark.parametrize("name", COPIES)
def test_copies_that_were_changed_a_little_are_found(name, side):
    scenes = [_scene(seed, side) for seed in range(200)]
    images = np.stack([np.asarray(image).transpose(2, 0, 1) for image in scenes + [COPIES[name](scene) for scene in scenes[:40]]])
    pairs = find_near_duplicates(thumbnails(images), pixel_digests(images))[0]
    right = pairs[:, 1] - pairs[:, 0] == 200
    assert right.sum() >= 36 and (~right).sum() <= 1


def _gradients(kind, count=200, side=100):
    rng, (y, x) = np.random.default_rng(0), np.mgrid[-1:1:100j, -1:1:100j]
    angle, center = rng.uniform(0, 7, (count, 1, 1, 1)), rng.uniform(-1, 1, (2, count, 1, 1, 1))
    shape = np.hypot(x - center[0], y - center[1]) if kind == "round" else np.cos(angle) * x + np.sin(angle) * y
    low, slope = rng.uniform(0, 120, (count, 1 if kind == "gray" else 3, 1, 1)), rng.uniform(-60, 60, (count, 1 if kind == "gray" else 3, 1, 1))
    noise = rng.normal(0, 3, (count, 3, side, side)) if kind == "noisy" else 0
    return np.broadcast_to(np.clip(low + 60 + slope * shape + noise, 0, 255), (count, 3, side, side)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["color", "gray", "noisy", "round"])
def test_plain_gradients_are_not_taken_for_copies(kind):
    images = _gradients(kind)
    pairs = find_near_duplicates(thumbnails(images), pixel_digests(images))[0]
    assert len(np.unique(pairs)) <= 0.02 * len(images)


def test_a_report_without_near_duplicates_does_not_say_that_there_are_none(tmp_path):
    for number in range(20):
        save(tmp_path / "data" / "ab"[number % 2] / f"{number}.png", _scene(number, 24))
    config = folder(tmp_path / "data", cache_dir=str(tmp_path / "cache"))
    for report in (check_source(config), check_splits(load_data(config))):
        assert not report.findings and "searched, except for larger crops" in str(report)
        assert "near duplicates" not in str(check_source(config, near_duplicates=False))


def test_work_per_image_does_not_grow_with_their_number():
    "Noise of low frequency: all images resemble each other, as digits do."
    grid = np.random.default_rng(0).normal(0, 1, (4000, 3, 3))
    enlarged = [Image.fromarray(one.astype(np.float32)).resize((28, 28), Image.Resampling.BICUBIC) for one in grid]
    images = np.stack([np.asarray(one) for one in enlarged])
    images = (128 + 40 * images).clip(0, 255).astype(np.uint8)[:, None]
    few, many = len(candidate_pairs(descriptors(images[:1000]))), len(candidate_pairs(descriptors(images)))
    assert few <= 1000 * 5 and many <= 4000 * 5


def test_large_images_are_compared_as_thumbnails(tmp_path):
    photo = np.asarray(smooth(1).resize((224, 224))).transpose(2, 0, 1)
    both = thumbnails(np.stack([photo, (photo * 0.9).astype(np.uint8)]))
    assert both.shape == (2, 3, 32, 32) and pair_distances(both, np.array([[0, 1]]))[0] < 0.05


@pytest.mark.parametrize("names", [["a\nb", "-rf", "é", "\udce9", "#x", '"q"', "\u202etxt", "x" * 200]])
def test_odd_names_survive_the_exclude_list(tmp_path, names):
    for number, name in enumerate(names):
        save(tmp_path / "data" / "cat" / f"{number}.png", picture(number))
        save(tmp_path / "data" / "dog" / f"{number}.png", picture(100 + number))
        (tmp_path / "data" / "cat" / (name + ".png")).write_bytes(b"")
    assert main(["check", f"data={tmp_path}/data", f"data.cache_dir={tmp_path}/cache", "--out", str(tmp_path / "out.txt")]) == 3
    splits, lines = warned(folder(tmp_path / "data", exclude=str(tmp_path / "out.txt")))
    assert len(splits.train) + len(splits.valid) + len(splits.test) == 16 and lines == []


@pytest.mark.parametrize("words, code, part", [
    (["data=/no/such"], 3, "no folder"), (["data=digits", "near=1"], 2, "unknown key near"), (["data=digits", "--out", "/no/such/list.txt"], 2, "no such folder"),
    (["data=digits", "data.exclude=/no/such"], 3, "no such exclude list"), (["data=digits", "data.exclude=/dev/null"], 3, "is not a file"),
    (["data=digits", "data.exclude=."], 3, "is not a file"), (["data=digits", "--out", "."], 2, "cannot write the list")])
def test_wrong_use_is_one_error_line(words, code, part, capsys):
    assert main(["check", *words]) == code
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and part in err


def test_digits_pass_the_check(capsys):
    assert main(["check", "data=digits"]) == 0
    assert "1,797 train; 10 classes" in capsys.readouterr()[0]
    assert not check_splits(replace(load_data("digits"), fingerprint="1" * 64)).findings


def test_training_images_among_new_ones_are_counted(tmp_path, capsys):
    data = with_leaks(tmp_path / "data", cache_dir=str(tmp_path / "cache"))
    words = [f"data={data.root}", f"data.cache_dir={data.cache_dir}", "epochs=1", "batch_size=8"]
    assert main(["train", *words, "--out", str(tmp_path / "run")]) == 0
    shutil.copytree(tmp_path / "data" / "train", tmp_path / "new")
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), f"data={tmp_path}/new"]) == 0
    assert "20 test images of new; 20 of them were used in training or validation" in capsys.readouterr()[0]
    shutil.copytree(tmp_path / "data" / "test", tmp_path / "newer")
    assert main(["evaluate", str(tmp_path / "run"), f"data={tmp_path}/newer", "--json"]) == 0
    assert json.loads(capsys.readouterr()[0])["data"]["learned_from"] == 0


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("limit", [0, 10**9])
def test_images_do_not_depend_on_the_number_of_decoding_threads(threads, limit, tmp_path, monkeypatch):
    data = with_leaks(tmp_path / "data", cache_dir=str(tmp_path / "cache"))
    first = load_data(data)
    monkeypatch.setattr("os.cpu_count", lambda: threads)
    again = load_data(replace(data, memory_limit=limit, cache_dir=str(tmp_path / "other")))
    assert again.fingerprint == first.fingerprint and again.train.ids == first.train.ids


@pytest.mark.parametrize("side", [63, 64, 100, 224])
def test_photos_of_any_size_are_checked(side, tmp_path):
    for number in range(12):
        save(tmp_path / "data" / ("cat" if number % 2 else "dog") / f"{number}.png", smooth(number).resize((side, side)))
    found = check_source(folder(tmp_path / "data", cache_dir=str(tmp_path / "cache")))
    assert found.findings == () and found.facts.width == [side] * 12


def test_damaged_files_alone_are_a_finding(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "1.png").write_bytes(b"")
    found = check_source(folder(tmp_path / "data", cache_dir=str(tmp_path / "cache")))
    assert [one.kind for one in found.findings] == ["unreadable images", "too few images"] and [*found.notes] == ["images", "near duplicates"]


def test_check_refuses_what_training_refuses(tmp_path, capsys):
    for number in range(2):
        for name in ("cat", "dog"):
            save(tmp_path / "few" / name / f"{number}.png", picture(number + 10 * (name == "dog")))
    save(tmp_path / "one" / "cat" / "1.png", picture(1))
    for place, part in (("few", "class cat has 2 images, too few"), ("one", "1 class (cat); at least 2 needed")):
        assert main(["check", f"data={tmp_path}/{place}", f"data.cache_dir={tmp_path}/cache"]) == 3
        out, err = capsys.readouterr()
        assert part in out and "allow=" not in err and err.count("error: ") == 1


def test_second_list_keeps_what_the_first_left_out(planted, tmp_path):
    words = ["check", f"data={planted[0]}", f"data.cache_dir={tmp_path}/cache", "check_near_duplicates=false",
             "--out", str(tmp_path / "out.txt")]
    main(words)
    first = set(read_exclude_list(tmp_path / "out.txt"))
    main([*words, f"data.exclude={tmp_path}/out.txt"])
    assert set(read_exclude_list(tmp_path / "out.txt")) == first and len(first) == 70


@pytest.mark.parametrize("data, part", [(b"\xff\xfe0", "cannot be read"), (b'ok\n"half', "line 2"), (b'"a" b', "line 1")])
def test_damaged_exclude_list_is_one_error_line(data, part, tmp_path, capsys):
    (tmp_path / "list.txt").write_bytes(data)
    assert main(["check", "data=digits", f"data.exclude={tmp_path}/list.txt"]) == 3
    out, err = capsys.readouterr()
    assert out == "" and part in err and err.count("\n") == 1


def test_exclude_list_with_bom_and_crlf_is_read(tmp_path):
    (tmp_path / "list.txt").write_bytes("0001\r\n0003\r\n".encode("utf-8-sig"))
    splits, lines = warned(DataConfig(exclude=str(tmp_path / "list.txt")))
    assert len(splits.train) + len(splits.valid) + len(splits.test) == 1795 and lines == []
