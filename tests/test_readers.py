"Readers: damaged or hostile folders, tables and archives raise one clear error; supported layouts give the right labels."
import gzip
import io
import os
import shutil
import socket
import struct
import sys
import tarfile
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from folders import every_id, folder, pets, picture, refused, save, warned  # noqa: F401

from image_classifier.config import compose, DataConfig, list_presets, settings
from image_classifier.core import ConfigError, DataError
from image_classifier.data import check_reader, CIFAR_SETS, digits, list_files, load_data, read_source, READERS, register_reader, Source
from image_classifier.data import suffixes_of


# bad inputs of a folder


def test_missing_folder_names_the_nearest_parent(tmp_path):
    refused(tmp_path / "x" / "y", "no folder", "x/y", f"the nearest existing parent is {tmp_path}")


def test_a_file_instead_of_a_folder_is_refused(tmp_path):
    (tmp_path / "pets.rar").write_bytes(b"Rar!")
    refused(tmp_path / "pets.rar", "not a folder of images", "expected one folder per class")


def test_empty_folder_names_the_expected_formats(tmp_path):
    refused(tmp_path, "no images", "one folder per class with .png .jpg .webp .bmp")


def test_images_at_the_root_show_the_expected_layout(tmp_path):
    save(tmp_path / "a.png", picture(1))
    assert refused(tmp_path, "1 images outside a class folder: a.png", "ROOT/cat/1.jpg").count("\n") == 3


def test_images_beside_class_folders_are_not_ignored(pets):
    save(pets / "a.png", picture(99))
    refused(pets, "1 images outside a class folder: a.png")


def test_one_class_is_not_enough(pets):
    shutil.rmtree(pets / "dog")
    refused(pets, "1 class (cat); at least 2 needed")


def test_empty_class_folder_is_refused_or_kept(pets):
    (pets / "fox").mkdir()
    refused(pets, "class 'fox' has no images", "allow=[empty_class]")
    splits, lines = warned(folder(pets), allow=["empty_class"])
    assert splits.classes == ("cat", "dog", "fox") and splits.train.counts()["fox"] == 0
    assert any("fox" in line for line in lines)


def test_class_with_too_few_images_names_class_and_minimum(pets):
    save(pets / "fox" / "1.png", picture(99))
    refused(pets, "class fox has 1 image", "at least 3 different images")


def test_copies_do_not_count_as_different_images(pets):
    for number in range(9):
        save(pets / "fox" / f"{number}.png", picture(99))
    refused(pets, "class fox has 9 images", "at least 3 different images")


def test_different_classes_in_train_and_test_are_both_listed(tmp_path):
    for number, place in enumerate(["train/cat", "train/dog", "test/cat", "test/fox"]):
        save(tmp_path / place / "1.png", picture(number))
    refused(tmp_path, "train lacks fox", "test lacks dog")


def test_empty_file_is_reported_or_skipped(pets):
    (pets / "cat" / "0.png").write_bytes(b"")
    refused(pets, "1 of 20 files cannot be used: cat/0.png: empty file", "allow=[corrupt]")
    splits, lines = warned(folder(pets), allow=["corrupt"])
    assert len(every_id(splits)) == 19 and "cat/0.png" not in every_id(splits)
    assert lines == ["1 damaged image is left out: cat/0.png"]


def test_truncated_jpeg_is_listed(pets):
    path = save(pets / "cat" / "a.jpg", picture(50, 64))
    path.write_bytes(path.read_bytes()[:-200])
    refused(pets, "cat/a.jpg: truncated")


def test_flipped_bits_are_listed(pets):
    data = bytearray((pets / "cat" / "1.png").read_bytes())
    data[-30] ^= 255
    (pets / "cat" / "1.png").write_bytes(data)
    refused(pets, "cat/1.png: ")


def test_text_named_jpg_is_not_an_image(pets):
    (pets / "cat" / "a.jpg").write_text("hello")
    refused(pets, "cat/a.jpg: not an image")


@pytest.mark.parametrize("kind, data", [("EPS", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n"), ("PDF", b"%PDF-1.4\n")])
def test_other_content_under_png_is_named(pets, kind, data):
    (pets / "cat" / "a.png").write_bytes(data)
    refused(pets, f"cat/a.png: content is {kind}, which is not allowed")


@pytest.mark.parametrize("kind", ["GIF", "TIFF"])
def test_other_images_under_png_are_named(pets, kind):
    save(pets / "cat" / "a.png", picture(99), format=kind)
    refused(pets, f"cat/a.png: content is {kind}, which is not allowed")


def test_pixel_bomb_is_refused_from_its_header(pets):
    data = bytearray((pets / "cat" / "1.png").read_bytes())
    data[16:24] = struct.pack(">II", 20000, 20000)
    (pets / "cat" / "1.png").write_bytes(data)
    refused(pets, "cat/1.png: 400 Mpx exceeds data.max_pixels=50 Mpx")


def test_large_file_is_refused_unread(pets):
    with open(pets / "cat" / "1.png", "ab") as file:
        file.truncate(60_000_000)
    refused(pets, "cat/1.png: 60 MB exceeds data.max_bytes=50 MB")


def test_converted_images_give_one_warning(pets):
    save(pets / "cat" / "ink.jpg", picture(30, mode="CMYK"))
    save(pets / "cat" / "clear.png", picture(31, mode="RGBA"))
    save(pets / "cat" / "palette.png", picture(32, mode="P"))
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000).save(pets / "cat" / "deep.png")
    save(pets / "cat" / "moving.webp", picture(33), save_all=True, append_images=[picture(34)])
    _, lines = warned(folder(pets))
    assert len(lines) == 1 and lines[0].startswith("converted images (mode | count | how): ")
    for part in ("CMYK | 1 | ", "RGBA | 1 | ", "P | 1 | ", "I;16 | 1 | 0 to 65535 scaled to 8 bits", "animated | 1 | first frame"):
        assert part in lines[0]


def test_link_out_of_the_root_is_refused_unless_allowed(pets, tmp_path):
    outside = save(tmp_path / "elsewhere.png", picture(99))
    (pets / "cat" / "b.png").symlink_to(outside)
    refused(pets, "cat/b.png: link leaves the dataset -> ", "allow=[links]")
    assert "cat/b.png" in every_id(load_data(folder(pets), allow=["links"]))


def test_linked_class_folder_is_refused_unless_allowed(pets, tmp_path):
    for number in range(4):
        save(tmp_path / "foxes" / f"{number}.png", picture(100 + number))
    (pets / "fox").symlink_to(tmp_path / "foxes")
    refused(pets, "fox: link leaves the dataset")
    assert load_data(folder(pets), allow=["links"]).classes == ("cat", "dog", "fox")


def test_link_within_the_root_is_followed(pets):
    (pets / "cat" / "again.png").symlink_to(pets / "cat" / "1.png")
    splits = load_data(folder(pets))
    assert len(every_id(splits)) == 21
    assert any({"cat/1.png", "cat/again.png"} <= set(part.ids) for part in (splits.train, splits.valid, splits.test))


def test_loops_pipes_and_sockets_do_not_hang(pets):
    (pets / "cat" / "self.png").symlink_to("self.png")
    (pets / "cat" / "up").symlink_to(pets)
    os.mkfifo(pets / "cat" / "pipe.png")
    place = os.getcwd()
    with socket.socket(socket.AF_UNIX) as socket_:
        try:
            os.chdir(pets / "cat")  # the path of a socket has 108 bytes at most
            socket_.bind("socket_.png")
        finally:
            os.chdir(place)
        line = refused(pets, "4 of 24 files cannot be used", allow=["links", "corrupt"])
    for name in ("self.png", "up", "pipe.png", "socket_.png"):
        assert f"cat/{name}: not a regular file" in line


@contextmanager
def without_root_rights(*folders):
    "Drop the rights of root inside the block, except that `folders` may be entered."
    modes = [(path, path.stat().st_mode) for path in folders]
    for path, mode in modes:
        path.chmod(mode | 0o755)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        for path, mode in modes:
            path.chmod(mode)


@pytest.mark.skipif(sys.platform == "win32", reason="no Unix permissions")
def test_unreadable_files_are_counted(pets):
    load_data(folder(pets))  # so that everything is imported
    for name in ("1.png", "2.png"):
        (pets / "cat" / name).chmod(0)
    (pets / "fox").mkdir(mode=0)
    with without_root_rights(pets, *list(pets.parents)[:4]) if os.geteuid() == 0 else nullcontext():
        refused(pets, "1 of 21 files cannot be used: fox: permission denied")
    (pets / "fox").rmdir()
    with without_root_rights(pets, *list(pets.parents)[:4]) if os.geteuid() == 0 else nullcontext():
        refused(pets, "2 of 20 files cannot be used (2 permission denied)", allow=["corrupt"])


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not UTF-8 need a Linux file system")
def test_unusual_names_work_and_are_shown_escaped(pets):
    odd = ["new\nline", "-rf", "\x1b[31mred", "cat\u202egnp", os.fsdecode(b"caf\xe9")]
    for number, name in enumerate(odd):
        save(pets / "cat" / f"{name}.png", picture(200 + number))
        for copy in range(3):
            save(pets / name / f"{copy}.png", picture(300 + 10 * number + copy))
    splits = load_data(folder(pets))
    assert len(every_id(splits)) == 40 and len(splits.classes) == 7
    "".join(splits.classes).encode("utf-8")  # valid in any artifact
    assert "\x1b" not in splits.train._repr_html_() and "\n" not in splits.train._repr_html_()
    (pets / "cat" / "new\nline.png").write_bytes(b"")
    line = refused(pets, r"cat/new\nline.png': empty file")
    assert "\n" not in line


def test_changed_and_deleted_files_are_named(pets, monkeypatch):
    listing = list_files(pets)
    files = {file.id: file for file in listing.files}
    (pets / "cat" / "1.png").write_bytes(b"0123456789")
    (pets / "cat" / "2.png").unlink()
    source = Source(("cat", "dog"), list(files), np.repeat([0, 1], 10), ["train"] * 20, files=[*files.values()], where="pets")
    monkeypatch.setitem(READERS, "stale", lambda config: source)
    line = refused(None, "2 of 20 files cannot be used", name="stale")
    assert f"cat/1.png: changed since the folder was listed ({files['cat/1.png'].size} -> 10 bytes)" in line
    assert "cat/2.png: gone since the folder was listed" in line


def test_all_problems_are_counted_in_one_error(pets):
    for path in sorted((pets / "cat").iterdir()) + sorted((pets / "dog").iterdir())[:5]:
        path.write_bytes(b"")
    line = refused(pets, "15 of 20 files cannot be used (15 empty file)", "and 5 more")
    assert line.count("empty file") == 11


def test_train_folder_without_images_is_refused(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
        save(tmp_path / "test" / name / "1.png", picture(len(name) + ord(name[0])))
    refused(tmp_path, "no images to train on: all 2 are of test", "ic evaluate")
    refused(tmp_path, "no images to train on: all 2 are of test", allow=["empty_class"])


def test_damaged_images_only_are_refused(pets):
    for path in pets.glob("*/*.png"):
        path.write_bytes(b"")
    refused(pets, "no images", allow=["corrupt"])
    refused(pets, "no image is left to train on", allow=["corrupt", "empty_class"])


# layouts


def test_train_val_test_folders_are_kept_as_splits(tmp_path):
    for number, part in enumerate(["train", "Val", "test"]):
        for name in ("cat", "dog"):
            for copy in range(3 - number):
                save(tmp_path / part / name / f"{copy}.png", picture(10 * number + copy + 100 * (name == "cat")))
    splits = load_data(folder(tmp_path))
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [6, 4, 2]
    assert splits.valid.ids == ("Val/cat/0.png", "Val/cat/1.png", "Val/dog/0.png", "Val/dog/1.png")


def test_a_missing_valid_split_is_taken_from_train_only(pets, tmp_path):
    shutil.copytree(pets, tmp_path / "both" / "train")
    for name in ("cat", "dog"):
        save(tmp_path / "both" / "test" / name / "1.png", picture(500 + len(name) + ord(name[0])))
    splits = load_data(folder(tmp_path / "both"))
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [18, 2, 2]
    assert all(id.startswith("test/") for id in splits.test.ids)


def test_a_class_may_be_called_train(tmp_path):
    for number in range(6):
        save(tmp_path / "train" / f"{number}.png", picture(number))
        save(tmp_path / "bus" / f"{number}.png", picture(10 + number))
    assert load_data(folder(tmp_path)).classes == ("bus", "train")


def test_hidden_files_and_notes_are_ignored_and_other_images_counted(pets):
    (pets / "cat" / "Thumbs.db").write_bytes(b"x")
    (pets / "cat" / ".1.png").write_bytes(b"x")
    (pets / "cat" / "notes.txt").write_text("x")
    (pets / ".git").mkdir()
    (pets / "cat" / "a.heic").write_bytes(b"x")
    splits, lines = warned(folder(pets))
    assert len(every_id(splits)) == 20
    assert lines == ["skipped: 1 in a format that data.formats does not name (cat/a.heic), 1 no image (cat/notes.txt), "
                     "3 hidden or of the system (.git; cat/.1.png; cat/Thumbs.db)"]


def test_suffixes_in_capitals_and_folders_inside_a_class_are_found(pets):
    save(pets / "cat" / "holiday" / "A.JPG", picture(99), format="JPEG")
    assert "cat/holiday/A.JPG" in every_id(load_data(folder(pets)))


def test_format_that_is_not_listed_is_not_read(pets):
    save(pets / "cat" / "a.bmp", picture(99))
    _, lines = warned(folder(pets, formats=["png"]))
    assert "cat/a.bmp" in lines[0]


# tables


@pytest.fixture
def table(pets):
    "The same images, listed in a CSV file with split and owner."
    lines = ["path,kind,part,owner"]
    for number in range(20):
        kind = "cat" if number < 10 else "dog"
        part = "test" if number % 10 == 0 else "train"
        lines.append(f"{kind}/{number % 10}.png,{kind},{part},owner{number % 10 // 2}{kind}")
    (pets / "pets.csv").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    return pets


def csv_config(root, **settings):
    return DataConfig("csv", str(root), **{"file_column": "path", "label_column": "kind", **settings})


def test_csv_reads_what_the_folder_reads(table):
    by_table, by_folder = load_data(csv_config(table)), load_data(folder(table))
    assert by_table.fingerprint == by_folder.fingerprint
    assert load_data(csv_config(table / "pets.csv")).fingerprint == by_folder.fingerprint


def test_csv_split_column_is_used(table):
    splits = load_data(csv_config(table, split_column="part"))
    assert splits.test.ids == ("cat/0.png", "dog/0.png") and len(splits.valid) == 2


def test_no_group_is_in_two_splits(table):
    splits = load_data(csv_config(table, group_column="owner"))
    sides = [set(part.groups) for part in (splits.train, splits.valid, splits.test)]
    assert all(sides) and not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])


def test_a_group_in_two_splits_of_the_table_is_a_leak(table):
    config = csv_config(table, split_column="part", group_column="owner")
    with pytest.raises(DataError, match="2 groups are in more than one split: owner0cat; owner0dog"):
        load_data(config)
    splits, lines = warned(config, ["leaks"])
    assert len(splits.test) == 2 and lines == ["2 groups are in more than one split: owner0cat; owner0dog"]


@pytest.mark.parametrize("text, part", [
    ("path,kind\n", "no rows"),
    ("path,kind\na.png,cat\nb.png,dog\n", "2 of 2 files cannot be used (2 no such file or directory)"),
    ("path,kind\ncat/1.png,\ncat/2.png,cat\n", "cat/1.png: label is empty"),
    ("path,kind\ncat/1.png,cat\n./cat/1.png,dog\n", "cat/1.png: listed 2 times"),
    ("path,kind\n/etc/passwd,cat\ncat/1.png,dog\n", "/etc/passwd: path leaves the dataset"),
    ("path,kind\n../x.png,cat\ncat/1.png,dog\n", "../x.png: path leaves the dataset"),
    ("path,kind\ncat,cat\ncat/1.png,dog\n", "cat: not a regular file"),
    ("path,kind\n\"a\0b\",cat\ncat/1.png,dog\n", "'a\\x00b': no usable file name"),
    ("file,kind\n", "no column path"),
    ("", "no header line"),
])
def test_bad_tables_are_refused_in_one_line(table, text, part):
    (table / "pets.csv").write_bytes(text.encode())
    assert "\n" not in refused(table, part, name="csv", file_column="path", label_column="kind")


def test_table_with_an_unknown_split_or_encoding_is_refused(table):
    (table / "pets.csv").write_text("path,kind,part\ncat/1.png,cat,tset\ndog/1.png,dog,train\n")
    columns = {"file_column": "path", "label_column": "kind"}
    refused(table, "split is tset, not train, valid or test", name="csv", **columns, split_column="part")
    (table / "pets.csv").write_bytes(b"path,kind\n\xff\xfe,x\n")
    refused(table, "not a readable CSV file", name="csv", **columns)
    (table / "two.csv").write_text("")
    refused(table, "2 .csv files", name="csv")


def test_an_unused_split_column_gives_a_warning(table):
    (table / "pets.csv").write_text((table / "pets.csv").read_text(encoding="utf-8-sig").replace("part", "split", 1))
    assert warned(csv_config(table))[1] == ["the column split is not used; use it with data.split_column=split"]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_table_with_another_separator_is_read(table, separator):
    text = (table / "pets.csv").read_text(encoding="utf-8-sig")
    (table / "pets.csv").write_text(text.replace(",", separator))
    assert load_data(csv_config(table)).fingerprint == load_data(folder(table)).fingerprint


def test_table_of_a_spreadsheet_is_read(table):
    "A line that names the separator, spaces in the header, empty fields at the end, empty rows, labels with a comma."
    rows = ["sep=;", " path ; kind;"] + [f"{kind}/{number}.png;{kind}, tame;" for kind in ("cat", "dog") for number in range(10)]
    (table / "pets.csv").write_text("\r\n".join([*rows, ";;", ""]))
    splits = load_data(csv_config(table))
    assert splits.classes == ("cat, tame", "dog, tame") and len(every_id(splits)) == 20


def test_tsv_is_a_table_not_a_folder(table):
    text = (table / "pets.csv").read_text(encoding="utf-8-sig").replace(",", "\t").replace("path", "file").replace("kind", "label")
    (table / "pets.csv").unlink()
    (table / "pets.TSV").write_text(text)
    assert load_data(str(table / "pets.TSV")).fingerprint == load_data(csv_config(table, file_column="file", label_column="label")).fingerprint
    assert compose([f"data={table / 'pets.TSV'}"]).data.name == "csv"


@pytest.mark.parametrize("text, part", [
    ("path,kind\ncat/1.png,cat, black\ndog/1.png,dog\n", "the header has 2 fields, but line 2 has 3 fields"),
    ("path;kind\ncat/1.png;cat\ndog/1.png;dog;tame\n", "the header has 2 fields, but line 3 has 3 fields"),
    ('path,kind\ncat/1.png,cat\ndog/1.png,"dog\ncat/2.png,cat\n', "line 3: a quote is not closed"),
    ("path,note,kind\ncat/1.png,old,cat\ndog/1.png,dog\n", "dog/1.png: label is empty"),
    ("path,kind,kind\ncat/1.png,cat,dog\n", "2 columns are called kind"),
    ("path, path ,kind\ncat/1.png,cat/2.png,cat\n", "2 columns are called path"),
])
def test_nothing_of_a_row_is_dropped(table, text, part):
    (table / "pets.csv").write_text(text)
    refused(table, part, name="csv", file_column="path", label_column="kind")


def test_two_columns_that_are_not_used_may_have_one_name(table):
    text = (table / "pets.csv").read_text(encoding="utf-8-sig")
    (table / "pets.csv").write_text("\n".join(f"{line},{'note,note' if not i else 'x,y'}" for i, line in enumerate(text.splitlines())))
    assert len(every_id(load_data(csv_config(table)))) == 20


def test_backslashes_separate_folders(table):
    text = (table / "pets.csv").read_text(encoding="utf-8-sig")
    (table / "pets.csv").write_text(text.replace("/", "\\"))
    assert load_data(csv_config(table)).fingerprint == load_data(folder(table)).fingerprint


@pytest.mark.skipif(sys.platform == "win32", reason="a file name with a backslash")
def test_file_with_a_backslash_in_its_name_is_found(table):
    shutil.move(table / "cat" / "1.png", table / "cat\\1.png")
    text = (table / "pets.csv").read_text(encoding="utf-8-sig")
    (table / "pets.csv").write_text(text.replace("cat/1.png", "cat\\1.png"))
    assert "cat\\1.png" in every_id(load_data(csv_config(table)))


def test_rows_of_hidden_and_system_files_are_skipped(table, caplog):
    save(table / "@eaDir" / "1.png", picture(900))
    with open(table / "pets.csv", "a") as file:
        file.write("\n@eaDir/1.png,cat,train,x\ncat/._1.png,cat,train,x\n")
    with caplog.at_level("INFO"):
        assert len(every_id(load_data(csv_config(table)))) == 20
    assert "skipped: 2 hidden or of the system (@eaDir/1.png; cat/._1.png)" in caplog.messages


def test_table_with_test_rows_only_says_what_is_missing(table):
    text = (table / "pets.csv").read_text(encoding="utf-8-sig")
    (table / "pets.csv").write_text(text.replace(",train,", ",test,"))
    line = refused(table, "no images to train on: all 20 are of test", "ic evaluate", name="csv", file_column="path",
                   label_column="kind", split_column="part")
    assert "empty_class" not in line


def test_valid_rows_without_test_rows_are_the_test_split(table):
    text = (table / "pets.csv").read_text(encoding="utf-8-sig")
    (table / "pets.csv").write_text(text.replace(",test,", ",Val,"))
    splits = load_data(csv_config(table, split_column="part"))
    assert splits.test.ids == ("cat/0.png", "dog/0.png") and len(splits.valid) == 2


# IDX and CIFAR files


def write_idx(path, array):
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    data = head + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.fixture
def idx(tmp_path):
    "A data set in MNIST's format: 60 training and 20 test images."
    random = np.random.default_rng(0)
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    for part, n, gz in (("train", 60, ".gz"), ("t10k", 20, "")):
        write_idx(tmp_path / "MNIST" / "raw" / f"{part}-images-idx3-ubyte{gz}", random.integers(0, 256, (n, 28, 28)))
        write_idx(tmp_path / "MNIST" / "raw" / f"{part}-labels-idx1-ubyte{gz}", np.arange(n) % 10)
    return tmp_path


def test_idx_is_found_below_the_root_plain_or_gzipped(idx):
    splits = load_data(DataConfig("mnist", str(idx)))
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [50, 10, 20]
    assert splits.train.images.shape == (50, 1, 28, 28)


def test_classes_are_in_order_of_name_whatever_the_labels(idx):
    splits = load_data(DataConfig("fashion_mnist", str(idx)))
    assert splits.classes[:3] == ("Ankle boot", "Bag", "Coat") and list(splits.classes) == sorted(splits.classes)
    assert splits.classes[splits.test.targets[splits.test.ids.index("test/00009")]] == "Ankle boot"  # label 9


@pytest.mark.parametrize("damage, part", [
    (lambda raw: (raw / "t10k-labels-idx1-ubyte").unlink(), "no t10k-labels-idx1-ubyte"),
    (lambda raw: write_idx(raw / "t10k-labels-idx1-ubyte", np.full(20, 10)), "20 labels up to 10 for 20 images of 10 classes"),
    (lambda raw: write_idx(raw / "t10k-labels-idx1-ubyte", np.zeros(19)), "19 labels up to 0 for 20 images"),
    (lambda raw: (raw / "t10k-labels-idx1-ubyte").write_text("<html>Not found"),
     "not an IDX file of 1 dimensions (starts with 3c 68 74 6d)"),
    (lambda raw: (raw / "t10k-labels-idx1-ubyte").write_bytes(b""), "not an IDX file"),
    (lambda raw: (raw / "t10k-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 255, 255, 255, 255])),
     "4294967295 bytes announced"),
    (lambda raw: (raw / "train-images-idx3-ubyte.gz").write_bytes((raw / "train-images-idx3-ubyte.gz").read_bytes()[:-500]),
     "cannot be read"),
    (lambda raw: write_idx(raw / "t10k-images-idx3-ubyte", np.zeros((20, 27, 28))), "test images (1, 27, 28)"),
])
def test_damaged_idx_is_refused(idx, damage, part):
    damage(idx / "MNIST" / "raw")
    assert "\n" not in refused(idx, part, name="mnist")


def archive(path, name, records=30, classes=10, rename=lambda name: name):
    "Write a small archive in the publisher's layout with random pixels; return its files."
    kind, random = CIFAR_SETS[name], np.random.default_rng(0)
    files = {kind.names: "\n".join(f"class{9 - i % 10}{i // 10}" for i in range(classes)).encode() + b"\n\n"}
    for member in [*kind.train, *kind.test]:
        rows = random.integers(0, 256, (records, kind.label_bytes + 3072), np.uint8)
        rows[:, 0] = 255
        rows[:, kind.label_bytes - 1] = np.arange(records) % classes
        files[member] = rows.tobytes()
    with tarfile.open(path, "w:gz") as tar:
        for member, data in files.items():
            info = tarfile.TarInfo(f"{kind.folder}/{rename(member)}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return files


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_read_from_the_archive_or_its_folder(tmp_path, name):
    kind = CIFAR_SETS[name]
    files = archive(tmp_path / kind.remote.name, name)
    packed = load_data(DataConfig(name, str(tmp_path)))
    assert packed.train.images.shape[1:] == (3, 32, 32) and len(packed.test) == 30
    assert list(packed.classes) == sorted(packed.classes) and packed.classes[packed.test.targets[0]] == "class90"  # label 0
    first = files[kind.test[0]][kind.label_bytes:][:3072]
    assert packed.test.images[0].tobytes() == first
    (tmp_path / kind.folder).mkdir()
    for member, data in files.items():
        (tmp_path / kind.folder / member).write_bytes(data)
    for place in (tmp_path / kind.remote.name, tmp_path / kind.folder, tmp_path):
        assert load_data(DataConfig(name, str(place))).fingerprint == packed.fingerprint


def test_damaged_cifar_archive_is_refused(tmp_path):
    place = tmp_path / CIFAR_SETS["cifar10"].remote.name
    refused(tmp_path, "neither cifar-10-binary.tar.gz nor cifar-10-batches-bin/", "data=folder", name="cifar10")
    archive(place, "cifar10", rename=lambda name: name.replace("data_batch_3", "other"))
    refused(tmp_path, "no data_batch_3.bin inside", name="cifar10")
    archive(place, "cifar10")
    place.write_bytes(place.read_bytes()[:-5000])
    refused(tmp_path, "cannot be read", name="cifar10")
    place.write_bytes(b"<html>")
    refused(tmp_path, "cannot be read", name="cifar10")


def test_pipe_among_cifar_files_does_not_hang(tmp_path):
    kind = CIFAR_SETS["cifar10"]
    (tmp_path / kind.folder).mkdir()
    for member, data in archive(tmp_path / "elsewhere.tar.gz", "cifar10").items():
        (tmp_path / kind.folder / member).write_bytes(data)
    (tmp_path / kind.folder / "data_batch_3.bin").unlink()
    os.mkfifo(tmp_path / kind.folder / "data_batch_3.bin")
    refused(tmp_path, "no data_batch_3.bin inside", name="cifar10")


def test_class_names_that_are_equal_as_text_are_refused(tmp_path):
    for name in (b"\xff", rb"\xff", b"dog"):
        save(Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name, b"1.png"))), picture(1))
    refused(tmp_path, r"two class folders have the same name once it is written as text: \xff")


def test_archive_that_unpacks_without_end_is_refused(tmp_path):
    place = tmp_path / CIFAR_SETS["cifar10"].remote.name
    info = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
    info.size = 2**40
    place.write_bytes(gzip.compress(info.tobuf()))
    refused(tmp_path, "unpacks to more than", name="cifar10")


# the registry


@pytest.fixture
def registry(monkeypatch):
    "The table of readers, restored after the test."
    for name in [*READERS]:
        monkeypatch.setitem(READERS, name, READERS[name])
    yield READERS
    for name in {*READERS} - BUILT_IN:
        del READERS[name]


BUILT_IN = {"digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "folder", "csv"}


def twenty(**changes):
    "A source of twenty gray images of two classes."
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), np.uint8)
    ids = [f"{i:02}" for i in range(20)]
    return replace(Source(("a", "b"), ids, np.arange(20) % 2, ["train"] * 20, images), **changes)


def test_unknown_data_set_is_a_configuration_error_with_the_nearest_name():
    for use in (load_data, check_reader):
        with pytest.raises(ConfigError, match="unknown data set mnits .data.name.. did you mean mnist") as caught:
            use("mnits")
        assert caught.value.exit_code == 2


def test_a_decorated_function_is_a_data_set(registry):
    @register_reader("mine")
    def read(config):
        return twenty(groups=[config.root] * 20 if config.root else None)

    assert read(DataConfig("mine")).ids == read_source(DataConfig("mine")).ids and check_reader("mine") is None
    splits = load_data(DataConfig("mine"))
    assert splits.classes == ("a", "b") and [len(part) for part in (splits.train, splits.valid, splits.test)] == [14, 2, 4]
    assert load_data("mine").fingerprint == splits.fingerprint
    assert read_source(DataConfig("mine", "Ann")).groups == ["Ann"] * 20


def test_a_registered_name_is_composed_like_a_built_in_one(registry):
    register_reader("mine")(lambda config: twenty())
    config = compose(["data.name=mine", "data.valid_fraction=0.2"])
    assert config.data.name == "mine" and len(load_data(config.data).valid) == 4


def test_a_reader_that_takes_allow_gets_it(registry):
    @register_reader("mine")
    def read(config, allow=()):
        return twenty(where=" ".join(allow))

    assert read_source(DataConfig("mine"), ["links"]).where == "links"


def test_a_reader_is_replaced_by_its_own_module_only(registry):
    for number in range(2):  # as when a notebook's cell runs twice
        @register_reader("mine")
        def read(config):
            return twenty(where=str(number))

    assert read_source(DataConfig("mine")).where == "1"
    with pytest.raises(ConfigError, match="a reader named digits exists already"):
        register_reader("digits")(read)
    with pytest.raises(ConfigError, match="a reader is registered under a name"):
        register_reader(read)


@pytest.mark.parametrize("changes, message", [
    ({"targets": np.arange(19) % 2}, "20 ids but 19 targets"), ({"parts": ["train"]}, "20 ids but 1 parts"),
    ({"groups": []}, "20 ids but 0 groups"), ({"images": None}, "set either images or files"),
    ({"images": np.zeros((20, 8, 8), np.uint8)}, r"images must be \(N,C,H,W\) uint8"), ({"images": np.zeros((20, 1, 8, 8))}, "uint8"),
    ({"ids": ["1"] * 20}, "ids must be unique"), ({"classes": ("b", "a")}, "unique and sorted"),
    ({"classes": ("a",)}, "targets must be positions in classes"), ({"targets": np.full(20, -1)}, "targets must be positions"),
    ({"parts": ["dev"] * 20}, "parts must be train, valid or test")])
def test_a_reader_that_returns_a_wrong_source_is_a_configuration_error(registry, changes, message):
    register_reader("mine")(lambda config: twenty(**changes))
    with pytest.raises(ConfigError, match=f"the reader mine returned a wrong Source: .*{message}"):
        load_data("mine")


def test_a_reader_that_returns_something_else_is_a_configuration_error(registry):
    register_reader("mine")(lambda config: [1, 2])
    with pytest.raises(ConfigError, match="the reader mine returned list .*return a Source"):
        load_data("mine")


def test_a_read_only_array_is_copied(registry):
    source = twenty()
    source.images.flags.writeable = False
    register_reader("mine")(lambda config: source)
    splits = load_data("mine")
    assert splits.classes == ("a", "b") and len(splits.test) == 4


def test_every_data_preset_has_a_reader_and_every_format_a_suffix():
    assert set(list_presets()["data"]) == set(READERS) == BUILT_IN
    for name in settings()["data.formats"].limits["choices"]:
        assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in suffixes_of([name])) and suffixes_of([name])


def test_jpe_is_a_suffix_of_jpeg(pets):
    save(pets / "cat" / "old.jpe", picture(99), format="JPEG")
    assert "cat/old.jpe" in every_id(load_data(folder(pets)))


@pytest.mark.parametrize("path", ["x/../out/secret.png", "out/secret.png", "x/../cat/link.png", "x/y/../../../out/secret.png", "x/far/secret.png"])
def test_a_path_in_a_table_that_leaves_the_data_through_links_is_refused(pets, tmp_path, path):
    "The real path of the file that is opened counts, not that of another spelling."
    save(tmp_path / "private" / "secret.png", picture(99))
    (pets / "deep" / "er").mkdir(parents=True)
    (pets / "x").symlink_to("deep/er")  # inside: `x/..` is `deep` for the system, and the root when normalized
    (pets / "deep" / "out").mkdir()
    save(pets / "deep" / "out" / "secret.png", picture(98))
    (pets / "out").symlink_to(tmp_path / "private")
    (pets / "deep" / "er" / "far").symlink_to(tmp_path / "private")
    (pets / "cat" / "link.png").symlink_to(tmp_path / "private" / "secret.png")
    (pets / "table.csv").write_text(f"file,label\n{path},cat\ncat/1.png,cat\ndog/1.png,dog\n")
    refused(pets / "table.csv", "leaves the dataset", name="csv")


def test_allowed_links_in_a_table_are_followed_to_the_same_file(pets, tmp_path):
    save(tmp_path / "private" / "1.png", picture(99))
    (pets / "out").symlink_to(tmp_path / "private")
    (pets / "table.csv").write_text("file,label\nx/../out/1.png,cat\ncat/1.png,cat\ndog/1.png,dog\n")
    assert read_source(DataConfig("csv", str(pets / "table.csv")), ["links"]).ids == ["cat/1.png", "dog/1.png", "out/1.png"]


def test_digits_are_the_same_where_scikit_learn_keeps_them_elsewhere(tmp_path, monkeypatch):
    usual = digits.read_digits(DataConfig())
    monkeypatch.setattr(digits, "find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / "__init__.py")))
    other = digits.read_digits(DataConfig())
    assert np.array_equal(usual.images, other.images) and np.array_equal(usual.targets, other.targets)
