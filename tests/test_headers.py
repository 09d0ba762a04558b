"Headers of bombs, foreign formats and unusual but valid files."
import os
import struct
import subprocess
import sys
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pictures import EVERY, PICTURES, SIGNATURE, bmp, chunk, drawn, exif_with, ihdr, patched, png, riff, saved

from image_classifier.data import decode, DecodeError, header_parts, ImageFacts, orientation, read_header, sniff


def bombs():
    "Files of a few kilobytes that would cost hundreds of megabytes or minutes to decode."
    frame = b"\0" * 16 + b"VP8 " + struct.pack("<I", 10) + b"\0\0\0\x9d\x01\x2a\1\0\1\0"
    animation = riff((b"VP8X", b"\2\0\0\0" + bytes(6)), (b"ANIM", bytes(6)), *[(b"ANMF", frame)] * 10_000)
    gif = (b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
           + b"\x2c\0\0\0\0\1\0\1\0\0\2\2\x44\1\0" * 10_000 + b"\x3b")
    jpeg = saved(drawn(), "JPEG")
    frame_at = jpeg.index(b"\xff\xc0")
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000)))
    return {
        "81 Mpx in 9.9 KB": (png(9000, 9000, bytes(10_000_000)), "81 Mpx exceeds data.max_pixels=50 Mpx"),
        "400 Mpx header": (png(20_000, 20_000), "400 Mpx exceeds data.max_pixels=50 Mpx"),
        "jpeg header": (patched(jpeg, frame_at + 5, b"\xff\xff\xff\xff"), "4294.9 Mpx exceeds data.max_pixels=50 Mpx"),
        "webp header": (riff((b"VP8X", b"\0\0\0\0\xff\x3f\0\xff\x3f\0")), "268.5 Mpx exceeds data.max_pixels=50 Mpx"),
        "bmp header": (bmp(30_000, 30_000), "900 Mpx exceeds data.max_pixels=50 Mpx"),
        "80 texts of 1 MB": (png(1, 1, bytes(4), before=text * 80), "more than 64 compressed texts"),
        "10,000 frames webp": (animation, "10000 frames exceed the limit of 5000"),
        "10,000 frames gif": (gif, "10000 frames exceed the limit of 5000"),
        "a million chunks": (png(1, 1, bytes(4), before=chunk(b"tEXt", b"") * 1_000_000), "more than 50000 parts in one file"),
        "a cycle of directories": (b"II*\0" + struct.pack("<IHI", 8, 0, 8), "more than 50000 parts in one file"),
    }


@pytest.mark.parametrize("name", bombs())
def test_bomb_is_refused_by_its_header(name):
    data, reason = bombs()[name]
    for read in (read_header, decode):
        with pytest.raises(DecodeError) as refusal:
            read(data, limits=EVERY)
        assert refusal.value.reason == reason


def test_bomb_after_the_pixels_is_found_before_they_are_decoded():
    data = png(1, 1, bytes(4), after=chunk(b"tEXt", b"") * 1_000_000)
    with pytest.raises(DecodeError, match="more than 50000 parts in one file"):
        decode(data)


def test_bombs_allocate_no_pixels_and_load_no_torch(tmp_path):
    for number, (data, _) in enumerate(bombs().values()):
        (tmp_path / str(number)).write_bytes(data)
    code = ("import resource, sys; from pathlib import Path\n"
            "from image_classifier.data.image_formats import DecodeError, Limits\n"
            "from image_classifier.data.decoding import decode\n"
            "files = [path.read_bytes() for path in Path(sys.argv[1]).iterdir()]\n"
            "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
            "before = peak()\n"
            "for data in files:\n"
            "    try: decode(data, limits=Limits(formats=('png', 'jpeg', 'webp', 'bmp', 'gif', 'tiff')))\n"
            "    except DecodeError: continue\n"
            "    raise SystemExit('decoded')\n"
            "print(peak() - before, 'torch' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    measured = done.stdout.split()
    assert int(measured[0]) < 40 and measured[1] == "False"


FOREIGN = {
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "eps ": b"\xc5\xd0\xd3\xc6" + bytes(40),
    "pdf": b"%PDF-1.7\n1 0 obj\n", "svg": b'<?xml version="1.0"?><!-- x --><svg xmlns="http://www.w3.org/2000/svg"/>',
    "psd": b"8BPS\0\1" + bytes(40), "fits": b"SIMPLE  =                    T" + bytes(80), "tiff": saved(drawn(), "TIFF"),
    "gif": saved(drawn(), "GIF"), "ppm": saved(drawn(), "PPM"), "ico": saved(drawn(), "ICO"), "zip": b"PK\3\4" + bytes(40),
    "heic": b"\0\0\0\x18ftypheic" + bytes(20), "avif": saved(drawn(), "AVIF"), "jpeg2000": saved(drawn(), "JPEG2000"),
    "html": b"<!DOCTYPE html><html><body>404</body></html>"}


def test_foreign_format_with_an_image_name_starts_no_process(tmp_path):
    marker = tmp_path / "started"
    for name in ("gs", "gswin32c", "gswin64c"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch '{marker}'\n")
        (tmp_path / name).chmod(0o755)
    for number, (name, data) in enumerate(FOREIGN.items()):
        (tmp_path / f"{number}.{name.strip()}.png").write_bytes(data)
    code = ("import sys; from pathlib import Path\n"
            "from image_classifier.data.image_formats import DecodeError; from image_classifier.data.decoding import decode\n"
            "for path in sorted(Path(sys.argv[1]).glob('*.png')):\n"
            "    try: decode(path.read_bytes()); print(path.name, 'decoded')\n"
            "    except DecodeError as error: print(path.name.split('.')[1], error.reason)")
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert sorted(lines) == sorted(f"{name.strip()} content is {name.strip().upper()}, which is not allowed" for name in FOREIGN)
    assert not marker.exists()


def test_facts_agree_with_pillow():
    for name, data in PICTURES.items():
        with Image.open(BytesIO(data)) as image:
            facts = read_header(data)
            assert (facts.width, facts.height, facts.mode) == (*image.size, image.mode), name
    assert read_header(PICTURES["animation"]).frames == read_header(PICTURES["apng"]).frames == 2
    assert read_header(PICTURES["png"]) == ImageFacts("png", 40, 24, "RGB", 1)


def long_gif(frames):
    "A GIF of one pixel with this many frames."
    return (b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
            + b"\x2c\0\0\0\0\1\0\1\0\0\2\2\x44\1\0" * frames + b"\x3b")


def long_webp(frames):
    "An animation of two images whose second is repeated."
    animation = saved(drawn(), "WEBP", save_all=True, append_images=[drawn().rotate(90)])
    start, stop = [part[1:] for part in header_parts(animation, "webp")][-1]
    animation += animation[start:stop + (stop - start) % 2] * (frames - 2)
    return patched(animation, 4, struct.pack("<I", len(animation) - 8))


def fragmented_png():
    "A PNG with its pixels in 20,000 chunks of a byte or two, and the same in one chunk."
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8))
    plain = saved(noise)
    stream = b"".join(plain[start + 8:stop - 4] for kind, start, stop in header_parts(plain, "png") if kind == b"IDAT")
    pieces = [stream[start:start + 2] for start in range(0, len(stream), 2)]
    return plain[:33] + b"".join(chunk(b"IDAT", piece) for piece in pieces) + plain[-12:], plain


def scans(data):
    return sum(code == 0xDA for code, *_ in header_parts(data, "jpeg"))


def unusual():
    "Unusual but valid files, each with a plain file of the same pixels (None: compare with Pillow)."
    plain, jpeg, progressive = saved(drawn()), saved(drawn(), "JPEG"), saved(drawn(), "JPEG", progressive=True)
    texts = chunk(b"tEXt", b"Gain\0" + b"7") * 1000 + chunk(b"iTXt", b"Note\0\0\0\0\0" + "Grün".encode()) * 1000
    compressed = chunk(b"zTXt", b"a\0\0" + zlib.compress(b"a" * 999))
    last_scan = progressive.rindex(b"\xff\xda")
    repeated = progressive[last_scan:-2] * (101 - scans(progressive))
    note = b"\xff\xfe\0\6note"
    return {
        "png with 2,000 texts": (plain[:33] + texts + plain[33:], plain),
        "png with 64 compressed texts": (plain[:33] + compressed * 64 + plain[33:], plain),
        "png in tiny chunks": fragmented_png(),
        "png with texts behind its pixels": (plain[:-12] + texts + plain[-12:], plain),
        "jpeg, progressive": (progressive, None),
        "jpeg, progressive, gray": (saved(drawn().convert("L"), "JPEG", progressive=True), None),
        "jpeg, progressive, cmyk": (saved(drawn().convert("CMYK"), "JPEG", progressive=True), None),
        "jpeg of 100 scans": (progressive[:last_scan] + repeated + b"\xff\xd9", None),
        "jpeg with restart markers": (saved(drawn(), "JPEG", restart_marker_blocks=1), None),
        "jpeg with filled markers": (jpeg.replace(b"\xff\xda", b"\xff\xff\xff\xda"), jpeg),
        "jpeg with a large profile": (saved(drawn(), "JPEG", icc_profile=bytes(6_000_000)), jpeg),
        "jpeg with 3,000 notes": (jpeg[:2] + note * 3000 + jpeg[2:], jpeg),
        "jpeg with a thumbnail": (saved(drawn(), "JPEG", exif=b"Exif\0\0II*\0" + saved(drawn(10, 6), "JPEG")), jpeg),
        "jpeg with a trailer": (jpeg + b"\0" * 999 + progressive, jpeg),
        "webp of 5,000 frames": (long_webp(5000), long_webp(2)),
        "gif of 5,000 frames": (long_gif(5000), long_gif(1)),
        "tiff of 50 pages": (saved(drawn(), "TIFF", save_all=True, append_images=[drawn().rotate(90)] * 49), plain),
    }


@pytest.mark.parametrize("name", unusual())
def test_unusual_but_valid_file_is_read(name):
    data, same = unusual()[name]
    image = decode(data, limits=EVERY)
    if same:
        expected = decode(same, limits=EVERY)
    else:
        opened = Image.open(BytesIO(data)).convert("RGB" if len(image) == 3 else "L")
        expected = np.atleast_3d(opened).transpose(2, 0, 1)
    assert np.array_equal(image, expected)


def test_limits_are_exact():
    assert read_header(long_webp(5000)).frames == 5000 and read_header(long_gif(5000), EVERY).frames == 5000
    assert scans(unusual()["jpeg of 100 scans"][0]) == 100 and scans(saved(drawn(), "JPEG", progressive=True)) == 10
    for data in (long_webp(5001), long_gif(5001)):
        with pytest.raises(DecodeError, match="5001 frames exceed the limit of 5000"):
            read_header(data, EVERY)


def test_impossible_number_of_frames_is_refused():
    animation = saved(drawn(), save_all=True, append_images=[drawn().rotate(90)])
    position = animation.index(b"acTL") + 4
    with pytest.raises(DecodeError, match="4294967295 frames exceed the limit"):
        read_header(patched(animation, position, b"\xff" * 4))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's, about damaged TIFF tags
def test_random_bytes_after_a_valid_start_never_crash():
    rng = np.random.default_rng(5)
    starts = [SIGNATURE + ihdr(4, 4), saved(drawn(), "JPEG")[:200], saved(drawn(), "WEBP")[:30], saved(drawn(), "GIF")[:60],
              saved(drawn(), "TIFF")[:8]]
    for number in range(300):
        data = starts[number % 5] + rng.bytes(rng.integers(0, 400))
        assert sniff(data) is not None
        try:
            read_header(data, EVERY)
        except DecodeError as error:
            assert error.reason and "\n" not in str(error)


def test_invalid_exif_means_upright():
    rng = np.random.default_rng(6)
    for order in (b"II*\0", b"MM\0*", b""):
        assert all(1 <= orientation(order + rng.bytes(rng.integers(0, 60))) <= 8 for _ in range(200))
    assert orientation(b"II*\0" + struct.pack("<IH", 8, 65535) + bytes(24)) == 1
    assert orientation(exif_with(6)) == 6 and orientation(exif_with(6)[6:]) == 6 and orientation(b"XX" + exif_with(6)[8:]) == 1
