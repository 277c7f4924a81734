"""Every kind of picture file becomes an upright RGB picture or one clear sentence."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image, ImageStat

from analysis.data.pictures import GUARD_PIXELS, check_header, decode, guarded, thumbnail_webp
from analysis.data.samples import Picture
from analysis.errors import DataError
from tests.data.writers import blank, saved, solid

QUARTERS = np.zeros((40, 60, 3), np.uint8)
QUARTERS[:20, :30] = (250, 10, 10)
QUARTERS[:20, 30:] = (10, 250, 10)
QUARTERS[20:, :30] = (10, 10, 250)
QUARTERS[20:, 30:] = (240, 240, 240)


def corner(image: Image.Image, where: str) -> np.ndarray:
    """Mean colour of one quarter: t or b for top or bottom, l or r for left or right."""
    half, side = image.height // 2, image.width // 2
    top, left = half * (where[0] == "b"), side * (where[1] == "r")
    return np.array(ImageStat.Stat(image.crop((left, top, left + side, top + half))).mean)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_common_formats_keep_their_colours(kind):
    image = decode(saved(Image.fromarray(QUARTERS), kind))
    assert image.mode == "RGB"
    assert image.size == (60, 40)
    np.testing.assert_allclose(corner(image, "tl"), (250, 10, 10), atol=12)
    np.testing.assert_allclose(corner(image, "br"), (240, 240, 240), atol=12)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied(kind):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the viewer turns the picture clockwise
    image = decode(saved(Image.fromarray(QUARTERS), kind, exif=exif))
    assert image.size == (40, 60)
    np.testing.assert_allclose(corner(image, "tr"), (250, 10, 10), atol=12)


def test_broken_exif_does_not_cost_the_picture():
    data = saved(Image.fromarray(QUARTERS), "JPEG", exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff")
    assert decode(data).size == (60, 40)


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_an_animation_gives_its_first_frame(kind):
    frames = [solid(200, 0, 0), solid(0, 200, 0)]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
    np.testing.assert_allclose(np.asarray(decode(data))[5, 5], (200, 0, 0), atol=6)


def test_cmyk_jpeg_becomes_rgb():
    image = decode(saved(Image.fromarray(QUARTERS).convert("CMYK"), "JPEG"))
    assert image.mode == "RGB"
    np.testing.assert_allclose(corner(image, "tl"), (250, 10, 10), atol=15)


@pytest.mark.parametrize(("value", "grey"), [(0, 0), (128 * 257, 128), (65535, 255)])
def test_sixteen_bit_grey_keeps_its_scale(value, grey):
    image = decode(saved(Image.fromarray(np.full((8, 9), value, np.uint16)), "PNG"))
    assert np.unique(np.asarray(image)).tolist() == [grey]
    assert image.mode == "RGB"


@pytest.mark.parametrize("depth", [10, 12, 14, 16])
def test_the_used_bits_of_a_grey_picture_are_its_scale(depth):
    """What a camera leaves in the low bits is neither black nor stretched: half of its range stays half."""
    values = np.full((8, 8), 2 ** (depth - 1), np.uint16)
    values[0, 0] = 2**depth - 1
    pixels = np.asarray(decode(saved(Image.fromarray(values), "PNG")))
    assert pixels[0, 0].tolist() == [255] * 3
    assert pixels[4, 4].tolist() == [127] * 3


def test_float_grey_is_stretched():
    ramp = np.linspace(-3, 5, 64, dtype=np.float32).reshape(8, 8)
    ramp[0, 1] = np.nan
    pixels = np.asarray(decode(saved(Image.fromarray(ramp), "TIFF")))
    assert pixels[0, 0, 0] == 0
    assert pixels[-1, -1, 0] == 255


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparency_lies_on_white(mode):
    if mode in ("RGBA", "LA"):
        image = Image.new(mode, (10, 10), (0,) * len(mode))
        data = saved(image, "PNG")
    elif mode == "P":
        palette = Image.new("P", (10, 10), 7)
        palette.putpalette([10, 20, 30] * 256)
        data = saved(palette, "PNG", transparency=7)
    else:  # a colour key
        data = saved(solid(1, 2, 3, size=(10, 10)), "PNG", transparency=(1, 2, 3))
    assert np.unique(np.asarray(decode(data))).tolist() == [255]


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("tEXt", "before"),
        ("zTXt", "before"),
        ("iTXt", "before"),
        ("iCCP", "before"),
        ("zTXt", "behind"),
        ("iTXt", "behind"),
    ],
)
def test_texts_above_the_decoders_limit_do_not_cost_the_picture(kind, place):
    long = b"x" * 3_000_000
    body = {
        "tEXt": b"a\0" + long,
        "zTXt": b"a\0\0" + zlib.compress(long),
        "iTXt": b"a\0\1\0\0\0" + zlib.compress(long),
        "iCCP": b"a\0\0" + zlib.compress(long),
    }[kind]
    data = saved(Image.fromarray(QUARTERS))
    chunk = struct.pack(">I", len(body)) + kind.encode() + body + struct.pack(">I", zlib.crc32(kind.encode() + body))
    at = 33 if place == "before" else len(data) - 12  # behind the header, or before the end
    image = decode(data[:at] + chunk + data[at:])
    assert image.size == check_header(data[:at] + chunk + data[at:]) == (60, 40)
    np.testing.assert_allclose(corner(image, "tl"), (250, 10, 10))


def test_one_pixel_is_a_picture():
    assert decode(saved(solid(9, 8, 7, size=(1, 1)))).size == (1, 1)


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "CMYK"), ("PNG", "RGB")])
@pytest.mark.parametrize("size", [(4000, 3000), (8000, 5000)])
def test_only_what_lies_above_the_guard_is_scaled(kind, mode, size):
    """A photograph of 12 megapixels reaches the model's own processor whole."""
    data = saved(Image.fromarray(QUARTERS).resize(size, Image.Resampling.NEAREST).convert(mode), kind)
    start = time.process_time()
    image = decode(data)
    assert time.process_time() - start < 15  # a hang, not a speed limit
    assert image.size == guarded(*size)
    assert image.size == size or 0.99 < image.width * image.height / GUARD_PIXELS <= 1
    assert image.width / image.height == pytest.approx(size[0] / size[1], rel=0.001)
    np.testing.assert_allclose(corner(image, "tl"), (250, 10, 10), atol=12)


REFUSED = {
    "a phone's": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), "HEIC"),
    "a page": (b"\n<!DOCTYPE html><html><body>404</body></html>", "HTML page"),
    "a drawing": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"></svg>', "SVG drawing"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "git lfs pull"),
    "not a picture": (b"hello, this is text", "is not a picture"),
    "nothing": (b"", "empty"),
    "truncated JPEG": (saved(Image.effect_noise((200, 200), 60), "JPEG")[:4000], "damaged"),
    "truncated PNG": (saved(Image.effect_noise((200, 200), 60), "PNG")[:4000], "damaged"),
    "only the start of a JPEG": (saved(solid(1, 2, 3), "JPEG")[:20], "damaged"),
    "64 megapixels": (blank(8000, 8000), "megapixels"),
    "400 megapixels": (blank(20000, 20000), "megapixels"),
    "a thread": (blank(2010, 10), "aspect ratio"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not a picture"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_sentence(case):
    data, words = REFUSED[case]
    with pytest.raises(DataError) as caught:
        decode(data, name="cat.jpg")
    message = str(caught.value)
    assert words in message
    assert message.startswith("cat.jpg")
    assert "\n" not in message


def test_damaged_bytes_never_raise_anything_else():
    rng = np.random.default_rng(0)
    source = Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8))
    outcomes = set()
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
        original = np.frombuffer(saved(source, kind), np.uint8)
        for _ in range(60):
            data = original.copy()
            data[rng.integers(0, min(len(data), 300), 4)] = rng.integers(0, 256, 4)
            try:
                outcomes.add(decode(data.tobytes()).mode)
            except DataError:
                outcomes.add("refused")
    assert outcomes == {"RGB", "refused"}


def test_header_check_agrees_with_decoding_on_headers(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(saved(solid(1, 2, 3)))
    assert check_header(path) == (12, 10) == check_header(path.read_bytes())
    for case in ("not a picture", "nothing", "64 megapixels", "a thread"):
        path.write_bytes(REFUSED[case][0])
        with pytest.raises(DataError, match=REFUSED[case][1]):
            check_header(path)
        with pytest.raises(DataError, match=REFUSED[case][1]):
            Picture(path=path).check()
    check_header(REFUSED["truncated JPEG"][0])  # only decoding shows that it is cut off


def test_thumbnails_are_small_webp_and_never_enlarged():
    small = Image.open(io.BytesIO(thumbnail_webp(solid(1, 2, 3, size=(1000, 500)), side=256)))
    assert (small.format, small.size) == ("WEBP", (256, 128))
    assert Image.open(io.BytesIO(thumbnail_webp(solid(1, 2, 3)))).size == (12, 10)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"%PDF-1.7" + b"x" * 99, "a PDF document"),
        (b"\0\0\0\x18ftypmp42" + b"\0" * 99, "a video"),
        (b"\0\0\0\x18ftypMiHB\0\0\0\0MiHBheic" + b"\0" * 99, "HEIC"),
        (b"II*\0\x10\0\0\0CR\x02\0" + b"\0" * 99, "raw picture"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0" * 99, "JPEG XL"),
        (b"PK\x03\x04" + b"\0" * 99, "an archive; unpack it"),
        (b'{"error":"not found"}', r"text \({.error.:.not found.}\), perhaps an error of the download"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 99, "begins as a picture and is damaged"),
    ],
)
def test_what_lies_among_pictures_is_called_by_its_name(data, words):
    with pytest.raises(DataError, match=words):
        decode(data, name="x")
