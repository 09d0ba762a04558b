"Pictures, and the files that hold them: honest ones, and parts to make dishonest ones of."
import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw

from image_classifier.data import Limits

EVERY = Limits(formats=("png", "jpeg", "webp", "bmp", "gif", "tiff", "jpeg2000", "avif", "ppm"))


def drawn(width=40, height=24):
    image = Image.new("RGB", (width, height), (120, 20, 40))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width // 3, height // 4), fill=(30, 60, 220))
    draw.ellipse((width // 2, height // 4, width - 3, height - 3), fill=(250, 220, 30))
    return image


def ghost():
    image = drawn().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def saved(image, format="PNG", **options):
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def noted(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def chunk(kind, payload, crc=None):
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload) if crc is None else crc)


SIGNATURE = b"\x89PNG\r\n\x1a\n"


def header(width, height, depth=8, color=2):
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))


def png(width, height, pixels=b"", depth=8, color=2, before=b"", after=b""):
    return SIGNATURE + header(width, height, depth, color) + before + chunk(b"IDAT", zlib.compress(pixels)) + after + chunk(b"IEND", b"")


def riff(*chunks):
    body = b"WEBP" + b"".join(kind + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2) for kind, payload in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp(width, height, bits=24, compression=0, header_size=40, colors=0, pixels=b""):
    return (b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + header_size)
            + struct.pack("<IiiHHIIiiII", header_size, width, height, 1, bits, compression, 0, 0, 0, colors, 0) + pixels)


def patched(data, position, new):
    return data[:position] + new + data[position + len(new):]


GRADIENT = np.arange(0, 65536, 37, dtype=np.uint16)[:1764].reshape(42, 42)
PICTURES = {
    "png": saved(drawn()), "alpha": saved(ghost()), "palette": saved(drawn().quantize(8), transparency=2), "gray": saved(drawn().convert("LA")),
    "deep": saved(Image.fromarray(GRADIENT)), "one bit": saved(drawn().convert("1")), "jpeg": saved(drawn(), "JPEG", exif=noted(6)),
    "progressive": saved(drawn(), "JPEG", progressive=True, comment=b"x" * 999), "cmyk": saved(drawn().convert("CMYK"), "JPEG"),
    "webp": saved(drawn(), "WEBP"), "film": saved(drawn(), "WEBP", save_all=True, append_images=[drawn().rotate(90)]),
    "apng": saved(drawn(), save_all=True, append_images=[drawn().rotate(90)]), "bmp": saved(drawn(), "BMP"),
    "pair": saved(drawn(), "MPO", save_all=True, append_images=[drawn().rotate(90)])}
