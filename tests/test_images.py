"Decoding and preprocessing of hostile files, unusual pixel types, orientations and equal sources."
import re
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, ImageOps
from PIL.PngImagePlugin import PngInfo
from pictures import (EVERY, GRADIENT, PICTURES, SIGNATURE, bmp, chunk, drawn, exif_with, ihdr, patched, png, riff, saved,
                      translucent)

from image_classifier.data import decode, DecodeError, Limits, Preprocess, read_header, resize
from image_classifier.data.decoding import load_image, to_array


def hand_made():
    "50 invalid files, each with the reason of its refusal (None: any reason, or decoded)."
    p, j, w, b = (saved(drawn(), format) for format in ("PNG", "JPEG", "WEBP", "BMP"))
    a, progressive = saved(translucent(), "WEBP", lossless=True), saved(drawn(), "JPEG", progressive=True)
    frame, scan, tables = j.index(b"\xff\xc0"), j.index(b"\xff\xda"), j.index(b"\xff\xc4")
    last_scan = progressive.rindex(b"\xff\xda")
    return [
        (b"", "empty file"), (b"\0", "not an image"), (b"\n" * 100, "not an image"), (b"cat,dog\n1,2\n", "not an image"),
        (b"\xff" * 1000, "not an image"), (b"\0" * 1000, "not an image"), (SIGNATURE[1:] + p, "not an image"),
        (SIGNATURE, "truncated image"), (p[:20], "truncated image"), (p[:33], "truncated image"), (p[:-12], "truncated image"),
        (p[:-30], "truncated image"), (p.replace(b"\r\n", b"\n"), "not an image"),
        (patched(p, 45, b"\0\0\0\0"), "damaged data"),
        (png(0, 5), "damaged data"), (png(5, 0), "damaged data"), (png(40, 24), None), (png(40, 24, bytes(100)), None), (png(4, 4, bytes(26)), "truncated image"),
        (png(4, 4, bytes(52), depth=7), None), (png(4, 4, bytes(52), color=5), "damaged data"),
        (png(4, 4, bytes(20), color=3), None),
        (png(4, 4, bytes(20), color=3, before=chunk(b"PLTE", b"abcd")), None),
        (png(4, 4, bytes(52), before=chunk(b"tRNS", b"")), None),
        (png(4, 4, bytes(52), before=ihdr(9000, 9000)), "damaged data"),
        (png(4, 4, bytes(52), before=chunk(b"ABCD", b"")), "damaged data"),
        (png(4, 4, bytes(52), after=struct.pack(">I4s", 2**31, b"IDAT")), "truncated image"),
        (SIGNATURE + ihdr(4, 4) + chunk(b"IDAT", b"no zlib stream") + chunk(b"IEND", b""), None),
        (SIGNATURE + ihdr(4, 4) + chunk(b"IDAT", zlib.compress(bytes(52)), crc=0) + chunk(b"IEND", b""), "damaged data"),
        (SIGNATURE + ihdr(4, 4) + chunk(b"IEND", b""), None), (png(4, 4, bytes(52), before=chunk(b"acTL", b"\0" * 3)), None),
        (png(2**31 - 1, 2**31 - 1), None), (b"\xff\xd8\xff", "truncated image"), (j[:frame], "truncated image"),
        (j[:scan], "truncated image"),
        (j[:scan + 30], "truncated image"), (j[:-2], "truncated image"), (j[:frame] + j[frame + 19:], None),
        (j[:tables] + j[scan:], None),
        (patched(j, frame + 5, b"\0\0"), "damaged data"), (patched(j, frame + 9, b"\x09"), None),
        (patched(j, frame + 4, b"\x0c"), None),
        (j[:scan] + j[frame:scan] + j[scan:], None), (j[:scan + 2] + b"\0\0" + j[scan + 4:], "damaged data"),
        (patched(j, scan + 30, b"\xff\xc0\0\x04aa"), "damaged data"),
        (progressive[:last_scan] + progressive[last_scan:-2] * 200 + b"\xff\xd9", "a JPEG of more than 100 scans"),
        (w[:16], "truncated image"), (w[:-4], "truncated image"), (patched(w, 16, b"\xff\xff\xff\x7f"), "truncated image"),
        (riff((b"VP8X", bytes(10))), None), (riff((b"VP8 ", bytes(30))), "damaged data"), (riff((b"VP8L", b"\x2f")), None),
        (riff((b"ABCD", b"")), "damaged data"), (riff(), None), (patched(a, 30, bytes(40)), None),
        (b[:20], None), (b[:-10], "truncated image"), (bmp(2**31 - 1, 1), None), (bmp(-5, 5), None),
        (bmp(5, -5, pixels=bytes(99)), None),
        (bmp(5, 5, bits=7), None), (bmp(5, 5, bits=8, compression=9), None), (bmp(5, 5, bits=8, colors=2**31), None),
        (bmp(50, 50, bits=8, compression=1, colors=2, pixels=b"\0\0\0\0\xff\xff\xff\0" + b"\0\2\xff\xff" * 9), None),
    ]


def mutations(count=250, seed=7):
    "Valid files with flipped bits, cuts and edited headers."
    rng = np.random.default_rng(seed)
    sources = [saved(drawn(), "PNG"), saved(translucent(), "PNG"), saved(drawn().convert("P"), "PNG", transparency=3),
               saved(drawn(), "PNG", exif=exif_with(6)), saved(drawn(), "JPEG", exif=exif_with(8)),
               saved(drawn(), "JPEG", progressive=True), saved(drawn().convert("CMYK"), "JPEG"), saved(drawn(), "WEBP"),
               saved(translucent(), "WEBP", lossless=True, exif=exif_with(3)),
               saved(drawn(), "WEBP", save_all=True, append_images=[drawn().rotate(90)]), saved(drawn(), "BMP"),
               saved(drawn().convert("P"), "BMP")]
    for number in range(count):
        data = bytearray(sources[number % len(sources)])
        kind = number // len(sources) % 3
        if kind == 0:
            for position in rng.integers(0, len(data), rng.integers(1, 9)):
                data[position] ^= 1 << rng.integers(8)
        elif kind == 1:
            del data[rng.integers(1, len(data)):]
        else:
            for position in rng.integers(0, min(64, len(data)), rng.integers(1, 5)):
                data[position] = rng.integers(256)
        yield bytes(data)


def outcome(data, limits=Limits()):
    "The reason of a refusal, or None for a valid array; any other outcome fails."
    try:
        image = decode(data, limits=limits)
    except DecodeError as error:
        assert error.reason and "\n" not in str(error) and error.exit_code == 3
        return error.reason
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[0] in (1, 3) and image.size and image.flags.c_contiguous


def test_damaged_file_gives_one_short_reason_and_never_a_crash():
    files = hand_made()
    assert len(files) >= 50
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number, (data, reason) in enumerate(files):
            found = outcome(data)
            assert reason is None or found == reason, (number, found, reason)


def test_random_damage_is_refused_or_decoded_but_never_crashes():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcomes = [outcome(data) for data in mutations()]
    assert len(outcomes) == 250
    assert sum(reason is not None for reason in outcomes) > 150
    assert {reason for reason in outcomes if reason} >= {"truncated image", "damaged data", "not an image"}


def test_random_damage_in_optional_formats_never_crashes():
    rng = np.random.default_rng(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about damaged TIFF tags
        for format, mode in [("GIF", "P"), ("TIFF", "RGB"), ("PPM", "RGB"), ("JPEG2000", "RGB"), ("AVIF", "RGB")]:
            good = saved(drawn().convert(mode), format)
            assert outcome(good, EVERY) is None
            for _ in range(30):
                data = bytearray(good)
                for position in rng.integers(0, len(data), 3):
                    data[position] ^= 1 << rng.integers(8)
                outcome(bytes(data[:rng.integers(1, len(data) + 1)]), EVERY)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP"])
def test_every_cut_of_a_file_is_detected(format):
    good = saved(drawn(), format)
    for length in range(len(good)):
        assert outcome(good[:length]) is not None, length


def test_every_flipped_bit_in_the_pixels_of_a_png_is_detected():
    good = saved(drawn(), "PNG")
    for position in range(33, len(good) - 12):
        assert outcome(patched(good, position, bytes([good[position] ^ 16]))) is not None, position


@pytest.mark.parametrize("size", [(65535, 1), (1, 65535)])
def test_extremely_thin_image_is_resized(size):
    data = saved(Image.new("L", size, 9))
    for rule in ("stretch", "crop", "pad"):
        assert Preprocess(8, 1, rule, (0.5,), (0.5,)).pixels(data).shape == (1, 8, 8)


@pytest.mark.parametrize("format", ["GIF", "TIFF", "PPM", "JPEG2000", "AVIF"])
def test_optional_format_is_read_when_allowed(format):
    image = decode(saved(drawn().quantize(64) if format == "GIF" else drawn(), format), limits=EVERY)
    assert np.abs(image.astype(int) - np.asarray(drawn()).transpose(2, 0, 1)).mean() < 12
    assert read_header(saved(drawn(), format), EVERY).format == format.lower()


def over_white(rgba):
    "Colors over a white background."
    color, alpha = np.split(np.asarray(rgba).astype(float), [-1], axis=-1)
    return color * alpha / 255 + 255 - alpha


def ycck():
    "`drawn` as a JPEG of four components, luma, two chromas and black, as Photoshop writes it."
    # Pillow inverts what it saves as CMYK, and Adobe's YCCK holds the luma and chromas of the negative.
    layers = [layer.point(lambda value: 255 - value) for layer in ImageOps.invert(drawn()).convert("YCbCr").split()]
    data = saved(Image.merge("CMYK", [*layers, Image.new("L", drawn().size, 0)]), "JPEG", quality=100, subsampling=0)
    return patched(data, data.index(b"Adobe") + 11, b"\2")


EXPECTED = {
    "1": (saved(drawn().convert("1")), np.asarray(drawn().convert("1")) * 255.0),
    "L": (saved(drawn().convert("L")), np.asarray(drawn().convert("L"))),
    "LA": (saved(translucent().convert("LA")), over_white(translucent().convert("LA"))[..., 0]),
    "P": (saved(drawn().quantize(8)), np.asarray(drawn().quantize(8).convert("RGB"))),
    "P+tRNS": (saved(drawn().quantize(8), transparency=bytes(range(0, 256, 32))),
               over_white(np.dstack([np.asarray(drawn().quantize(8).convert("RGB")), np.asarray(drawn().quantize(8)) * 32]))),
    "RGB": (saved(drawn()), np.asarray(drawn())),
    "RGB+tRNS": (saved(drawn(), transparency=(120, 20, 40)),
                 np.where((np.asarray(drawn()) == (120, 20, 40)).all(-1, keepdims=True), 255, drawn())),
    "RGBA": (saved(translucent()), over_white(translucent())),
    "RGBA(0)": (saved(Image.new("RGBA", (3, 3), (9, 8, 7, 0))), np.full((3, 3, 3), 255)),
    "I;16": (saved(Image.fromarray(GRADIENT)), GRADIENT / 257),
    "I;16 tiff": (saved(Image.fromarray(GRADIENT), "TIFF"), GRADIENT / 257),
    "I tiff": (saved(Image.fromarray((GRADIENT // 257).astype(np.int32)), "TIFF"), GRADIENT // 257),
    "F tiff 0..1": (saved(Image.fromarray((GRADIENT / 65535).astype(np.float32)), "TIFF"), GRADIENT / 257),
    "16-bit color": (png(2, 1, b"\0" + struct.pack(">6H", 0, 257, 32768, 65535, 65280, 1000), depth=16),
                     np.array([[[0, 1, 128], [255, 254, 4]]])),
    "CMYK tiff": (saved(Image.new("CMYK", (2, 2), (255, 0, 100, 50)), "TIFF"), np.full((2, 2, 3), [0, 205, 155 * 205 / 255])),
    "bmp 1": (saved(drawn().convert("1"), "BMP"), np.asarray(drawn().convert("1")) * 255.0),
    "webp RGBA": (saved(translucent(), "WEBP", lossless=True, exact=True), over_white(translucent())),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_colors_follow_the_documented_table(name):
    data, expected = EXPECTED[name]
    image = decode(data, limits=EVERY)
    expected = np.atleast_3d(np.asarray(expected, float)).transpose(2, 0, 1)
    assert image.shape == expected.shape
    assert np.abs(image - expected).max() <= 1


def test_sixteen_bits_are_scaled_and_not_clipped():
    image = decode(saved(Image.fromarray(GRADIENT)))
    assert len(np.unique(image)) > 250 and (image == 255).mean() < 0.01


DEEP = {  # values, their ranges, the same values in 8 bits
    "12 bits": (GRADIENT // 16, {"integer_range": (0, 4095)}, GRADIENT // 16 / 4095 * 255),
    "32 bits": (GRADIENT.astype(np.int32) * 4, {"integer_range": (0, 2**18 - 1)}, GRADIENT * 255.0 / 65535.75),
    "signed": (GRADIENT.astype(np.int32) - 32768, {"integer_range": (-32768, 32767)}, GRADIENT / 257),
    "floats to 255": ((GRADIENT / 257).astype(np.float32), {"float_range": (0, 255)}, GRADIENT / 257),
    "negative floats": ((GRADIENT / 32768 - 1).astype(np.float32), {"float_range": (-1, 1)}, GRADIENT / 257)}


@pytest.mark.parametrize("name", DEEP)
def test_values_beyond_8_bits_are_scaled_by_the_range_they_were_given(name):
    values, ranges, expected = DEEP[name]
    limits, image = Limits(formats=["png", "tiff"], **ranges), Image.fromarray(values)
    for source in (saved(image, "TIFF"), *([saved(image)] if values.dtype == np.uint16 else [])):
        assert np.abs(decode(source, limits=limits)[0] - expected).max() <= 1
    pixels = Preprocess(42, 1, "crop", (0.5,), (0.5,), limits).pixels(image)
    assert np.abs(pixels[0] - expected).max() <= 1


@pytest.mark.parametrize("values, what", [
    (GRADIENT.astype(np.int32), "32-bit integers from 0 to 65231 have no known white"),
    (GRADIENT.astype(np.int32) - 5, "32-bit integers from -5 to 65226 have no known white"),
    ((GRADIENT / 257).astype(np.float32), "floats from 0 to 253.817 have no known white"),
    ((GRADIENT / 65535 - 0.1).astype(np.float32), "floats from -0.1 to 0.895361 have no known white")])
def test_values_without_a_known_range_are_refused_and_never_guessed_from_one_image(values, what):
    for source in (Image.fromarray(values), saved(Image.fromarray(values), "TIFF")):
        with pytest.raises(DecodeError, match=re.escape(what)):
            Preprocess(42, 1, "crop", (0.5,), (0.5,), EVERY).pixels(source)


def test_a_pillow_image_of_integers_from_0_to_255_keeps_its_values():
    gray = np.asarray(drawn().convert("L"))
    for kind in (np.int32, np.int16, np.int64, np.uint32):
        if (image := _from_array(gray.astype(kind))) is not None:
            assert np.array_equal(to_array(load_image(image, Limits()))[0], gray), kind


def _from_array(values):
    "Return a Pillow image of these values, None if Pillow has no such type."
    try:
        return Image.fromarray(values)
    except TypeError:
        return None


def test_an_image_of_another_kind_than_the_range_is_refused():
    limits = Limits(integer_range=(0, 4095))
    with pytest.raises(DecodeError, match="most values lie outside 0 to 4095, the range of the data set"):
        decode(saved(Image.fromarray(GRADIENT)), limits=limits)


def test_cmyk_jpeg_of_adobe_is_not_a_negative():
    plain = drawn().convert("CMYK")
    image = decode(saved(plain, "JPEG", quality=100, subsampling=0))
    assert np.abs(image.astype(int) - np.asarray(plain.convert("RGB")).transpose(2, 0, 1)).max() <= 12


def test_ycck_jpeg_has_its_original_colors():
    image = decode(ycck())
    assert np.abs(image.astype(int) - np.asarray(drawn()).transpose(2, 0, 1)).max() <= 12
    assert np.array_equal(image.transpose(1, 2, 0), np.asarray(Image.open(BytesIO(ycck())).convert("RGB")))


def test_all_exif_orientations_give_the_same_image():
    turns = Image.Transpose
    undo = {2: turns.FLIP_LEFT_RIGHT, 3: turns.ROTATE_180, 4: turns.FLIP_TOP_BOTTOM, 5: turns.TRANSPOSE, 6: turns.ROTATE_90,
            7: turns.TRANSVERSE, 8: turns.ROTATE_270}
    for format, options in [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})]:
        upright = decode(saved(drawn(), format, **options), limits=EVERY)
        for code, turn in undo.items():
            data = saved(drawn().transpose(turn), format, exif=exif_with(code), **options)
            assert np.array_equal(decode(data, limits=EVERY), upright), (format, code)
            assert np.array_equal(np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(data)))).transpose(2, 0, 1), upright)


def xmp_with(code, element=False):
    "An XMP packet with an orientation, as an attribute or as an element."
    inside = f"><tiff:Orientation>{code}</tiff:Orientation></rdf:Description>" if element else f' tiff:Orientation="{code}"/>'
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description{inside}</rdf:RDF></x:xmpmeta>'.encode()


def exif_of_type(kind, code):
    "An EXIF block whose orientation is of another type than SHORT."
    return b"Exif\0\0II*\0" + struct.pack("<IHHHIII", 8, 1, 0x0112, kind, 1, code, 0)


def text_chunk(name, text, compressed):
    "A saved `drawn` with a text, as PNG programs write it."
    info = PngInfo()
    info.add_itxt(name, text, zip=compressed) if name.startswith("XML") else info.add_text(name, text, zip=compressed)
    return {"format": "PNG", "pnginfo": info}


def raw_profile(code):
    "EXIF as the text that ImageMagick writes."
    exif = exif_with(code)
    rows = "\n".join(re.findall(".{1,72}", exif.hex()))
    return f"\nexif\n{len(exif):8d}\n{rows}\n"


ORIENTATION = {
    "XMP in JPEG": lambda code: {"format": "JPEG", "quality": 100, "subsampling": 0, "xmp": xmp_with(code)},
    "XMP in PNG": lambda code: text_chunk("XML:com.adobe.xmp", xmp_with(code).decode(), False),
    "compressed XMP in PNG": lambda code: text_chunk("XML:com.adobe.xmp", xmp_with(code, element=True).decode(), True),
    "XMP in WEBP": lambda code: {"format": "WEBP", "lossless": True, "xmp": xmp_with(code)},
    "XMP element in WEBP": lambda code: {"format": "WEBP", "lossless": True, "xmp": xmp_with(code, element=True)},
    "XMP in AVIF": lambda code: {"format": "AVIF", "quality": 100, "subsampling": "4:4:4", "xmp": xmp_with(code)},
    "ImageMagick's EXIF in PNG": lambda code: text_chunk("Raw profile type exif", raw_profile(code), True),
    "plain text EXIF in PNG": lambda code: text_chunk("Raw profile type exif", raw_profile(code), False),
    "LONG in JPEG": lambda code: {"format": "JPEG", "quality": 100, "subsampling": 0, "exif": exif_of_type(4, code)},
    "LONG in PNG": lambda code: {"format": "PNG", "exif": exif_of_type(4, code)},
    "SLONG in WEBP": lambda code: {"format": "WEBP", "lossless": True, "exif": exif_of_type(9, code)},
    "EXIF before XMP": lambda code: {"format": "WEBP", "lossless": True, "exif": exif_with(code), "xmp": xmp_with(9 - code)}}


@pytest.mark.parametrize("name", ORIENTATION)
def test_orientation_is_applied_wherever_pillow_finds_it(name):
    for code in range(1, 9):
        data = saved(drawn(), **ORIENTATION[name](code))
        expected = ImageOps.exif_transpose(Image.open(BytesIO(data))).convert("RGB")
        for source in (data, Image.open(BytesIO(data))):
            pixels = to_array(load_image(source, EVERY)).transpose(1, 2, 0)
            assert np.array_equal(pixels, np.asarray(expected)), (code, type(source))
        assert (expected.size == drawn().size) == (code < 5)  # it was turned at all


def test_damaged_or_huge_texts_mean_upright():
    plain = saved(drawn())
    texts = [[b"zTXt", b"Raw profile type exif\0\0no zlib"], [b"tEXt", b"Raw profile type exif\0\nexif\n 9\nxyz"],
             [b"iTXt", b"XML:com.adobe.xmp"]]
    bomb = [b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(50_000_000) + xmp_with(6))]
    for kind, content in [*texts, bomb]:
        assert np.array_equal(decode(plain[:33] + chunk(kind, content) + plain[33:]), decode(plain))


def test_exif_block_after_the_pixels_is_applied():
    plain = saved(drawn())
    data = plain[:-12] + chunk(b"eXIf", exif_with(3)[6:]) + plain[-12:]
    expected = decode(plain)[:, ::-1, ::-1]
    preprocess = Preprocess(24, 3, "crop", (0.5,) * 3, (0.5,) * 3)
    assert np.array_equal(decode(data), expected)
    assert np.array_equal(preprocess.pixels(Image.open(BytesIO(data))), preprocess.pixels(data))


def test_color_profile_is_ignored():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for format in ("PNG", "JPEG", "WEBP"):
        assert np.array_equal(decode(saved(drawn(), format, icc_profile=profile)), decode(saved(drawn(), format)))


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_bytes_and_pillow_and_arrays_give_equal_pixels(name, channels):
    data = PICTURES[name]
    preprocess = Preprocess(20, channels, "pad", (0.5,) * channels, (0.5,) * channels)
    pixels = preprocess.pixels(data)
    assert pixels.shape == (channels, 20, 20) and pixels.flags.c_contiguous
    assert np.array_equal(preprocess.pixels(Image.open(BytesIO(data))), pixels)
    four = decode(data, 4).transpose(1, 2, 0)
    for same in (four, four.transpose(2, 0, 1), decode(data, channels)):
        assert np.array_equal(preprocess.pixels(same), pixels)
    assert np.array_equal(resize(decode(data, channels), 20, "pad"), pixels)


def test_threads_give_the_same_pixels_and_leave_pillows_settings_alone():
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)
    work = [*PICTURES.values(), *(data for data, _ in hand_made())] * 3

    def decoded(data):
        try:
            return decode(data).tobytes()
        except DecodeError as error:
            return error.reason
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(decoded, work)) == [decoded(data) for data in work]
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))


def test_pillows_global_switch_does_not_admit_truncated_files(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for format in ("PNG", "JPEG", "WEBP"):
        assert outcome(saved(drawn(), format)[:-20]) == "truncated image"


def test_damaged_pillow_image_raises_a_decode_error():
    preprocess = Preprocess(8, 3, "crop", (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(DecodeError, match="truncated image"):
        preprocess.pixels(Image.open(BytesIO(saved(drawn(), "JPEG")[:-300])))
    with pytest.raises(DecodeError, match="exceeds data.max_pixels"):
        preprocess.pixels(Image.open(BytesIO(png(9000, 9000))))
    for wrong in [None, "cat.png", 7, [1, 2], np.zeros((0, 4), np.uint8), np.zeros((8, 8, 8), np.uint8),
                  np.zeros(9, np.uint8), np.zeros((8, 8), bool)]:
        with pytest.raises(DecodeError):
            preprocess.pixels(wrong)
