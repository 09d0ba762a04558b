"Cached images are found again: after a kill, with other processes, within the size limit; damaged ones are decoded again."
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from folders import folder, pets, picture, refused, save, warned  # noqa: F401

from image_classifier.cli import main
from image_classifier.core import ConfigError, DataError, MARKER, own_folder, ResourceError, write_json
from image_classifier.data import cache_entries, cached_images, DecodedImages, IndexedArrayView, load_data, load_evaluation_set
from image_classifier.data import load_or_decode, open_entry, pixels_key, read_source, remove_entry, SourceImages
from image_classifier.quality import check_source


@pytest.fixture
def mapped(pets, tmp_path):
    "A configuration that maps the pets from a cache in the test's folder."
    return folder(pets, memory_limit=0, cache_dir=str(tmp_path / "cache"))


@pytest.fixture
def decoded(monkeypatch):
    "The rows of each call that decodes, from now on."
    rows = []
    decode_into = SourceImages.decode_into
    def _record(self, found, wanted):
        rows.append(list(wanted))
        return decode_into(self, found, wanted)
    monkeypatch.setattr(SourceImages, "decode_into", _record)
    return rows


def entry_of(config):
    return Path(config.cache_dir) / "decoded" / pixels_key(read_source(config), config)


def same(first, second):
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(first[:3], second[:3]))


# reuse


def test_second_run_decodes_nothing_whatever_the_split(mapped, decoded):
    first = load_data(mapped)
    for change in ({}, {"valid_fraction": 0.3}, {"split_seed": 7}):
        again = load_data(folder(mapped.root, memory_limit=0, cache_dir=mapped.cache_dir, **change))
        assert (again.fingerprint == first.fingerprint) == (not change)
    assert len(load_evaluation_set(mapped)) == 20 and decoded == [[*range(20)]]


def test_check_and_training_decode_once(mapped, decoded):
    assert not check_source(mapped).findings
    load_data(mapped)
    assert len(decoded) == 1


def test_expensive_images_are_cached_and_mapped_even_if_they_fit_into_memory(pets, tmp_path, decoded, monkeypatch):
    config = folder(pets, cache_dir=str(tmp_path / "cache"))
    assert isinstance(load_data(config).train.images, np.ndarray) and not (tmp_path / "cache").exists()
    monkeypatch.setattr(cached_images, "_WORTH", 20 * 10_064)  # the cost of these images
    splits = [load_data(config), load_data(config)]
    assert all(isinstance(part.train.images, IndexedArrayView) for part in splits)
    assert splits[0].fingerprint == splits[1].fingerprint and len(decoded) == 2
    assert cache_entries(tmp_path / "cache")[0].in_use()
    load_data(folder(pets, cache_dir=str(tmp_path / "none"), cache_limit=0))
    assert not (tmp_path / "none").exists()


def test_mean_and_std_from_the_cache_equal_those_of_the_images(mapped):
    load_data(mapped)
    splits = load_data(mapped)
    for channel in range(3):
        values = np.asarray(splits.train.images)[:, channel] / 255
        assert splits.preprocess.mean[channel] == pytest.approx(values.mean(), abs=1e-12)
        assert splits.preprocess.std[channel] == pytest.approx(values.std(), abs=1e-12)


def test_a_cache_that_cannot_be_written_does_not_stop_images_that_fit_into_memory(pets, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file, not a folder")
    config = folder(pets, cache_dir=str(tmp_path / "cache"))
    monkeypatch.setattr(cached_images, "_WORTH", 0)
    splits, lines = warned(config)
    assert len(splits.train) and len(lines) == 1 and lines[0].startswith("the decoded images are not cached: cannot write to ")
    with pytest.raises(ConfigError, match="cannot write to"):
        load_data(folder(pets, cache_dir=str(tmp_path / "cache"), memory_limit=0))


# damage


@pytest.mark.parametrize("name", ["images.bin", "digests.bin", "sums.bin", "about.json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "empty", "more"])
def test_a_damaged_entry_is_decoded_again(mapped, decoded, name, damage):
    before = load_data(mapped).fingerprint
    path = entry_of(mapped) / name
    whole = path.read_bytes()
    path.unlink() if damage == "gone" else path.write_bytes({"cut": whole[:-9], "empty": b"", "more": whole + b"\0"}[damage])
    assert load_data(mapped).fingerprint == before and len(decoded) == 2
    assert load_data(mapped).fingerprint == before and len(decoded) == 2


@pytest.mark.parametrize("about", [
    [], {}, {"format": 2}, {"complete": True}, {"shape": [20, 3, 8]}, {"shape": [20, 3, 8, "8"]}, {"shape": None}, {"data": 7},
    {"problems": []}, {"problems": {"x": "y"}}, {"problems": {"1": 2}}, {"check": 1}, {"complete": 1}])
def test_a_wrong_description_is_not_trusted(mapped, decoded, about):
    before = load_data(mapped).fingerprint
    path = entry_of(mapped) / "about.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **about} if about else about))
    assert load_data(mapped).fingerprint == before
    assert len(decoded) == (1 if isinstance(about, dict) and about.get("complete") is True else 2)


def test_a_flipped_bit_in_the_statistics_is_detected(mapped, decoded):
    before = load_data(mapped).fingerprint
    for name in ("digests.bin", "sums.bin"):
        whole = bytearray((entry_of(mapped) / name).read_bytes())
        whole[33] ^= 1
        (entry_of(mapped) / name).write_bytes(whole)
        assert load_data(mapped).fingerprint == before
    assert [len(rows) for rows in decoded] == [20, 1, 0]  # one digest that does not match; a sum, which is computed again


def test_damaged_images_are_recorded_and_not_decoded_again(pets, mapped, decoded):
    (pets / "cat" / "3.png").write_bytes((pets / "cat" / "3.png").read_bytes()[:-20])
    line = refused(pets, "1 of 20 files cannot be used: cat/3.png: ", memory_limit=0, cache_dir=mapped.cache_dir)
    assert refused(pets, memory_limit=0, cache_dir=mapped.cache_dir) == line
    splits, lines = warned(mapped, ["corrupt"])
    assert lines == ["1 damaged image is left out: cat/3.png"] and len(decoded) == 1
    assert splits.fingerprint == warned(folder(pets), ["corrupt"])[0].fingerprint


def test_a_file_that_cannot_be_read_now_is_tried_again_later(pets, mapped, decoded, monkeypatch):
    made, forbidden = SourceImages.__init__, [7]
    def _made(self, *arguments):
        made(self, *arguments)
        read = self.read
        def _read(row):
            if decoded and row in forbidden:  # its header could be read
                raise DataError("permission denied")
            return read(row)
        self.read = _read
    monkeypatch.setattr(SourceImages, "__init__", _made)
    refused(pets, "1 of 20 files cannot be used: cat/7.png: permission denied", memory_limit=0, cache_dir=mapped.cache_dir)
    assert not cache_entries(Path(mapped.cache_dir))[0].complete
    forbidden.clear()
    assert load_data(mapped).fingerprint == load_data(folder(pets)).fingerprint
    assert decoded[:2] == [[*range(20)], [7]]


# interruption


SLOW = """
import sys, time
from image_classifier.config import DataConfig
from image_classifier.data import load_data, Preprocess
pixels = Preprocess.pixels
Preprocess.pixels = lambda *args: (time.sleep({pause}), pixels(*args))[1]
splits = load_data(DataConfig("folder", sys.argv[1], memory_limit=0, cache_dir=sys.argv[2]))
print(splits.fingerprint, flush=True)
"""


def slow_process(config, pause=0.05):
    "Start another process that decodes these images slowly."
    return subprocess.Popen([sys.executable, "-c", SLOW.format(pause=pause), config.root, config.cache_dir],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def count_decoded(config):
    "Return how many images have been decoded."
    path = entry_of(config) / "digests.bin"
    return int((np.fromfile(path, "V16") != np.zeros(1, "V16")).sum()) if path.exists() else 0


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timeout"
        time.sleep(0.01)


@pytest.fixture
def many(tmp_path):
    "200 images, more than one chunk of a thread."
    for number in range(200):
        save(tmp_path / "many" / ("cat" if number % 2 else "dog") / f"{number}.png", picture(number))
    return folder(tmp_path / "many", memory_limit=0, cache_dir=str(tmp_path / "cache"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_decoding_continues_where_it_stopped(many, decoded, number):
    with slow_process(many) as other:
        wait_for(lambda: count_decoded(many) >= 40)
        other.send_signal(number)
        other.communicate(timeout=60)
    done = count_decoded(many)
    assert 40 <= done < 200 and open_entry(entry_of(many)) is None
    again = load_data(many)
    assert len(decoded) == 1 and len(decoded[0]) <= 200 - done
    assert again.fingerprint == load_data(folder(many.root)).fingerprint


def test_images_damaged_by_a_power_failure_are_decoded_again(many, decoded):
    with slow_process(many) as other:
        wait_for(lambda: count_decoded(many) >= 40)
        other.kill()
    stored = np.flatnonzero(np.fromfile(entry_of(many) / "digests.bin", "V16") != np.zeros(1, "V16"))
    with open(entry_of(many) / "images.bin", "r+b") as file:
        file.seek(int(stored[5]) * 192)
        file.write(bytes(192))
    again = load_data(many)
    assert stored[5] in decoded[0] and stored[6] not in decoded[0]
    assert again.fingerprint == load_data(folder(many.root)).fingerprint


def test_foreign_content_in_an_entry_is_replaced(mapped, decoded):
    place = entry_of(mapped)
    (own_folder(place.parent, "cache") / place.name).mkdir()
    (place / "images.bin").write_bytes(bytes(range(256)) * 99)
    (place / "about.json").write_text('{"format": 1, "complete": false, "shape": [20, 3, 9, 9], "data": "x"}')
    assert load_data(mapped).fingerprint == load_data(folder(mapped.root)).fingerprint and decoded[0] == [*range(20)]


def test_after_an_interrupt_in_a_notebook_the_same_process_can_continue(mapped, monkeypatch):
    "A traceback keeps the arrays alive, and they keep the file open."
    decode_into = SourceImages.decode_into
    def interrupted(self, found, rows):
        decode_into(self, found, rows[:5])
        raise KeyboardInterrupt
    monkeypatch.setattr(SourceImages, "decode_into", interrupted)
    with pytest.raises(KeyboardInterrupt) as kept:
        load_data(mapped)
    monkeypatch.setattr(SourceImages, "decode_into", decode_into)
    splits, lines = warned(mapped)
    assert splits.fingerprint == load_data(folder(mapped.root)).fingerprint and lines == [] and kept.tb


# concurrency


def test_of_two_processes_one_decodes(many):
    with slow_process(many, 0.02) as first, slow_process(many, 0.02) as second:
        outs = [other.communicate(timeout=120) for other in (first, second)]
    assert {out for out, _ in outs} == {load_data(folder(many.root)).fingerprint + "\n"}
    assert sum("another process is decoding these images; waiting for it" in err for _, err in outs) == 1


def test_after_the_decoding_process_is_killed_the_waiting_one_decodes_the_rest(many, decoded):
    with slow_process(many) as other:
        wait_for(lambda: count_decoded(many) >= 20)
        threading.Timer(1.5, other.kill).start()
        splits, lines = warned(many)
    assert lines == ["another process is decoding these images; waiting for it"]
    assert len(decoded[0]) < 200 and splits.fingerprint == load_data(folder(many.root)).fingerprint


# limits


def sizes_kept(config):
    return {json.loads((entry.place / "about.json").read_text())["shape"][2] for entry in cache_entries(Path(config.cache_dir))}


def sized(config, size, **more):
    return folder(config.root, memory_limit=0, cache_dir=config.cache_dir, size=size, **more)


def test_the_least_recently_used_entry_is_removed_first(mapped):
    each = 20 * 3 * 8 * 8 + 2000  # an entry with its statistics and description
    for number, size in enumerate((8, 9, 10)):
        load_data(sized(mapped, size))
        os.utime(entry_of(sized(mapped, size)) / "about.json", (1000 + number, 1000 + number))
        for name in ("images.bin", "digests.bin", "sums.bin"):
            os.utime(entry_of(sized(mapped, size)) / name, (900, 900))
    load_data(sized(mapped, 8))  # used again: 9 is the oldest now
    load_data(sized(mapped, 7, cache_limit=3 * each + 2 * 2000))
    assert sizes_kept(mapped) == {8, 10, 7}


def test_an_entry_in_use_is_never_removed(mapped):
    held = load_data(sized(mapped, 8))
    before = np.asarray(held.train.images).copy()
    load_data(sized(mapped, 9))
    load_data(sized(mapped, 10, cache_limit=12_000))
    assert sizes_kept(mapped) == {8, 10}
    with pytest.raises(ResourceError, match="of them in use by other processes") as caught:
        load_data(sized(mapped, 9, cache_limit=9_000))
    assert caught.value.exit_code == 6 and np.array_equal(held.train.images, before)
    with pytest.raises(ResourceError, match="4860 bytes of decoded images, data.cache_limit is 100"):
        load_data(sized(mapped, 9, cache_limit=100))


def test_lock_of_another_process_counts(mapped):
    code = ("import sys; from image_classifier.data import load_data; from image_classifier.config import DataConfig\n"
            "splits = load_data(DataConfig('folder', sys.argv[1], memory_limit=0, cache_dir=sys.argv[2]))\n"
            "print('ready', flush=True); sys.stdin.read()")
    words = [sys.executable, "-c", code, mapped.root, mapped.cache_dir]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        other.stdout.readline()
        [entry] = cache_entries(Path(mapped.cache_dir))
        assert entry.in_use() and not remove_entry(entry)
        other.stdin.close()
        other.wait(60)
    assert not entry.in_use() and remove_entry(entry)


def test_a_full_disk_is_reported_before_decoding(mapped, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**6, 10**6, 1000))
    with pytest.raises(ResourceError, match="3840 bytes of decoded images, 1000 free"):
        load_data(mapped)


def test_images_larger_than_memory_are_not_copied(mapped):
    splits = load_data(mapped)
    assert isinstance(splits.train.images, IndexedArrayView) and isinstance(splits.train.select([0, 1]).images, IndexedArrayView)
    found = load_or_decode(read_source(mapped), mapped)
    assert isinstance(found, DecodedImages) and isinstance(found.images, np.memmap) and not found.images.flags.writeable


# ic cache


@pytest.fixture
def ic(capsys, mapped):
    "Call `ic cache`: exit code, stdout, stderr."
    def call(*words):
        capsys.readouterr()
        clear = words[:1] == ("clear",)
        return main(["cache", *words[:clear], f"data.cache_dir={mapped.cache_dir}", *words[clear:]]), *capsys.readouterr()
    return call


def filled(config):
    "Fill the cache with decoded images, an archive, a download, findings, a trial epoch and a foreign file; return the entry's name."
    load_data(config)
    root = Path(config.cache_dir)
    for part in ("archives", "mnist", "checks", "trials"):
        own_folder(root / part, "cache")
    for name in ("archives/" + "a" * 32 + "/pets/1.png", "mnist/train-images-idx3-ubyte.gz", f"checks/{'c' * 32}-near.json",
                 f"trials/{'d' * 32}.json", "notes/mine.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(bytes(1000))
    write_json(root / "archives" / ("a" * 32 + ".json"), {"format": 1, "files": 1, "bytes": 1000})
    return entry_of(config).name[:12]


def test_ic_cache_lists_the_entries(ic, mapped):
    assert ic() == (0, f"0 bytes in {mapped.cache_dir}\n", "")
    name = filled(mapped)
    code, out, err = ic("--json")
    entries = {entry["kind"]: entry for entry in json.loads(out)["entries"]}
    assert (code, err, {kind: entry["name"] for kind, entry in entries.items()}) == (
        0, "", {"decoded images": name, "unpacked archive": "a" * 12, "download": "mnist", "findings": "checks", "trial epochs": "trials"})
    one = entries["decoded images"]
    assert (one["data"], one["images"], one["complete"], one["in_use"]) == (mapped.root, 20, True, False) and one["bytes"] > 3840 and "T" in one["used"]
    code, out, err = ic()
    assert code == 0 and all(word in out for word in (name, "20 images", "download", "1 KB", mapped.root)) and out.count("\n") == 6


def test_ic_cache_clears_all_but_downloads_and_foreign_files(ic, mapped):
    filled(mapped)
    code, out, err = ic("clear")
    assert (code, err) == (0, "") and out.startswith("removed 4 of 4, ")
    left = sorted(str(path.relative_to(mapped.cache_dir)) for path in Path(mapped.cache_dir).rglob("*")
                  if path.is_file() and path.name != MARKER)
    assert left == ["mnist/train-images-idx3-ubyte.gz", "notes/mine.txt"]
    assert ic("clear") == (0, "nothing to remove\n", "")
    assert ic("clear", "mnist", "--json") == (0, json.dumps({"folder": mapped.cache_dir, "removed": ["mnist"], "in_use": [], "bytes": 1000}) + "\n", "")
    assert (Path(mapped.cache_dir) / "notes" / "mine.txt").exists()


def test_ic_cache_clears_the_named_entries(ic, mapped):
    name = filled(mapped)
    assert ic("clear", name, "checks")[0] == 0
    assert {entry.name for entry in cache_entries(Path(mapped.cache_dir))} == {"a" * 12, "mnist", "trials"}


def test_ic_cache_suggests_the_nearest_name_and_removes_nothing(ic, mapped):
    name = filled(mapped)
    assert ic("clear", "checks", "mnits") == (2, "", "error: nothing in the cache is called mnits. did you mean mnist?\n")
    assert ic("clear", name[:-1])[2] == f"error: nothing in the cache is called {name[:-1]}. did you mean {name}?\n"
    assert len(cache_entries(Path(mapped.cache_dir))) == 5


@pytest.mark.parametrize("words, line", [
    (["mnist"], "error: mnist is not KEY=VALUE. to remove entries, write ic cache clear mnist\n"),
    (["epochs=3"], "error: epochs=3 has no meaning here. only data.cache_dir=FOLDER has\n"),
    (["clear", "../../etc"], "error: nothing in the cache is called ../../etc. the cache is empty\n"),
    (["--clear"], "error: unknown option --clear. did you mean ic cache clear?\n")])
def test_ic_cache_rejects_wrong_arguments_with_one_line(ic, words, line):
    code, out, err = ic(*words)
    assert (code, out, err) == (2, "", line)


def test_ic_cache_keeps_entries_in_use(ic, mapped):
    name = filled(mapped)
    splits = load_data(mapped)
    assert "in use" in ic()[1]
    code, out, err = ic("clear")
    assert code == 0 and f"in use: {name}" in out
    code, out, err = ic("clear", name)
    assert code == 2 and err.startswith(f"error: in use by another process: {name} (") and len(splits.train)
    del splits
    assert ic("clear", name)[0] == 0


def test_ic_cache_needs_neither_torch_nor_hydra():
    code = "import sys; from image_classifier.cli.app import main; assert main(['cache']) == 0; assert not {'torch', 'hydra'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


# a file that is cut while it is mapped


CUT = """
import sys
import numpy as np
from image_classifier.config import DataConfig
from image_classifier.core import DataError
from image_classifier.data import batches, load_data
from image_classifier.metrics import evaluate
from image_classifier.models import build_model
from image_classifier.training import fit
splits = load_data(DataConfig("folder", sys.argv[1], memory_limit=0, cache_dir=sys.argv[2]))
model = build_model("simple_cnn", channels=3, classes=2, size=splits.preprocess.size)
uses = {"batch": lambda: next(batches(splits.train, splits.preprocess)), "training": lambda: fit(model, splits, epochs=1),
        "evaluation": lambda: evaluate(model, splits.test, splits.preprocess), "array": lambda: np.asarray(splits.test.images),
        "one image": lambda: splits.train.images[0], "selection": lambda: splits.valid.select([0]).digests,
        "thumbnails": lambda: splits.train.thumbnails()}
for left in (38_000, 100):
    print("on", flush=True)
    sys.stdin.readline()
    for name, use in uses.items():
        try:
            use()
            print(name, "read", flush=True)
        except DataError as problem:
            print(name, problem, flush=True)
"""


def test_cached_images_that_are_cut_in_use_end_in_one_line(many):
    "Within the last page, a read silently gives zeros; beyond it, the read ends the process by SIGBUS."
    with subprocess.Popen([sys.executable, "-c", CUT, many.root, many.cache_dir], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as child:
        for left in (38_000, 100):
            assert child.stdout.readline() == "on\n"
            os.truncate(entry_of(many) / "images.bin", left)
            child.stdin.write("go\n")
            child.stdin.flush()
            lines = [child.stdout.readline() for _ in range(7)]
            assert all(f"decoded images was cut from 38400 to {left} bytes while it was in use" in line for line in lines), lines
    assert child.returncode == 0
    assert load_data(many).fingerprint == load_data(folder(many.root)).fingerprint
