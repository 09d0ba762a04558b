"Images and encoded files for tests: valid ones, and parts to build invalid ones from."
import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw

from image_classifier.data import Limits

EVERY = Limits(formats=("png", "jpeg", "webp", "bmp", "gif", "tiff", "jpeg2000", "avif", "ppm"))


def drawn(width=40, height=24):
    "An image without any symmetry."
    image = Image.new("RGB", (width, height), (120, 20, 40))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width // 3, height // 4), fill=(30, 60, 220))
    draw.ellipse((width // 2, height // 4, width - 3, height - 3), fill=(250, 220, 30))
    return image


def translucent():
    "`drawn` with alpha from 0 to 255."
    image = drawn().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def saved(image, format="PNG", **options):
    "The bytes of `image` as a file of `format`."
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def exif_with(orientation):
    "An EXIF block with an orientation."
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def chunk(kind, payload, crc=None):
    "One chunk of a PNG."
    checksum = zlib.crc32(kind + payload) if crc is None else crc
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", checksum)


SIGNATURE = b"\x89PNG\r\n\x1a\n"


def ihdr(width, height, depth=8, color=2):
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))


def png(width, height, pixels=b"", depth=8, color=2, before=b"", after=b""):
    "A PNG file with these scanlines, and other chunks before and after them."
    head, image = ihdr(width, height, depth, color), chunk(b"IDAT", zlib.compress(pixels))
    return SIGNATURE + head + before + image + after + chunk(b"IEND", b"")


def riff(*chunks):
    "A WEBP file of (kind, payload)."
    body = b"WEBP"
    for kind, payload in chunks:
        body += kind + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp(width, height, bits=24, compression=0, header_size=40, colors=0, pixels=b""):
    "A BMP file with these header fields."
    return (b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + header_size)
            + struct.pack("<IiiHHIIiiII", header_size, width, height, 1, bits, compression, 0, 0, 0, colors, 0) + pixels)


def patched(data, position, new):
    "`data` with `new` written over it at `position`."
    return data[:position] + new + data[position + len(new):]


GRADIENT = np.arange(0, 65536, 37, dtype=np.uint16)[:1764].reshape(42, 42)
PICTURES = {
    "png": saved(drawn()), "alpha": saved(translucent()),
    "palette": saved(drawn().quantize(8), transparency=2), "gray": saved(drawn().convert("LA")),
    "16 bits": saved(Image.fromarray(GRADIENT)), "one bit": saved(drawn().convert("1")),
    "jpeg": saved(drawn(), "JPEG", exif=exif_with(6)),
    "progressive": saved(drawn(), "JPEG", progressive=True, comment=b"x" * 999), "cmyk": saved(drawn().convert("CMYK"), "JPEG"),
    "webp": saved(drawn(), "WEBP"), "animation": saved(drawn(), "WEBP", save_all=True, append_images=[drawn().rotate(90)]),
    "apng": saved(drawn(), save_all=True, append_images=[drawn().rotate(90)]), "bmp": saved(drawn(), "BMP"),
    "stereo pair": saved(drawn(), "MPO", save_all=True, append_images=[drawn().rotate(90)])}
