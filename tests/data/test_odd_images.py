"""Every kind of image that a folder may hold: read right, or left out with a reason."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile

from ddim.data import build
from ddim.data.decode import MAX_PIXELS, Unreadable, decode
from ddim.data.folder import scan

RED, GREEN, BLUE, WHITE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (100, 100, 100)
SCENE = np.array([[RED, GREEN], [BLUE, WHITE]], np.uint8).repeat(8, 0).repeat(8, 1)  # 16 x 16, a colour per quarter


def saved(image, kind, **options):
    """The bytes of a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(width, height, bits, colour, rows, *, interlaced=0):
    """A PNG of any bit depth, which Pillow cannot write."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def interlaced_png():
    """The scene in Adam7's seven passes."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = [row.tobytes() for y, x, dy, dx in passes for row in SCENE[y::dy, x::dx]]
    return png(16, 16, 8, 2, rows, interlaced=1)


def quarters(data, size=16):
    """The colours in the middle of the four quarters of what is read."""
    pixels = decode(io.BytesIO(data), size).pixels
    assert pixels.shape == (3, size, size)
    assert pixels.dtype == np.uint8
    low, high = size // 4, size - 1 - size // 4
    return [tuple(pixels[:, y, x].tolist()) for y in (low, high) for x in (low, high)]


def flat(mode, colour):
    return Image.new(mode, (16, 16), colour)


def paletted(**options):
    image = Image.fromarray(SCENE).quantize(4)
    return saved(image, "PNG", **options)


def frames(*colours):
    return {"save_all": True, "append_images": [flat("RGB", colour) for colour in colours], "duration": 50}


def grey(level):
    return [(level, level, level)] * 4


scene = Image.fromarray(SCENE)
QUARTERS = [RED, GREEN, BLUE, WHITE]
half_alpha = flat("RGBA", (0, 0, 0, 0))
half_alpha.paste((0, 0, 0, 255), (0, 0, 8, 16))
half_grey_alpha = flat("LA", (0, 0))
half_grey_alpha.paste((50, 255), (0, 0, 8, 16))
wide = np.concatenate([np.zeros((16, 40, 3), np.uint8), SCENE, np.zeros((16, 40, 3), np.uint8)], 1)
slope16 = np.array([[0, 257], [25700, 65535]], np.uint16).repeat(8, 0).repeat(8, 1)
SLOPE = [(v, v, v) for v in (0, 1, 100, 255)]
unit = np.array([[0, 0.2], [0.6, 1]], np.float32).repeat(8, 0).repeat(8, 1)
UNIT = [(v, v, v) for v in (0, 51, 153, 255)]
with_nan = unit.copy()
with_nan[:8, :8] = np.nan

EXACT = {  # what, and the colours of its quarters
    "RGB PNG": (saved(scene, "PNG"), QUARTERS),
    "BMP": (saved(scene, "BMP"), QUARTERS),
    "TIFF": (saved(scene, "TIFF"), QUARTERS),
    "lossless WebP": (saved(scene, "WEBP", lossless=True), QUARTERS),
    "PPM": (saved(scene, "PPM"), QUARTERS),
    "interlaced PNG": (interlaced_png(), QUARTERS),
    "LZW TIFF": (saved(scene, "TIFF", compression="tiff_lzw"), QUARTERS),
    "palette": (paletted(), QUARTERS),
    "GIF": (saved(scene, "GIF"), QUARTERS),
    "ICC profile": (
        saved(scene, "PNG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()),
        QUARTERS,
    ),
    "grey PNG": (saved(flat("L", 100), "PNG"), [GREY] * 4),
    "1 bit": (saved(flat("1", 1), "PNG"), [WHITE] * 4),
    "1 bit TIFF": (saved(flat("1", 0), "TIFF", compression="group4"), grey(0)),
    "16-bit PNG": (png(16, 16, 16, 0, [row.astype(">u2").tobytes() for row in slope16]), SLOPE),
    "16-bit RGB PNG": (png(1, 1, 16, 2, [struct.pack(">HHH", 65535, 257 * 7, 0)]), [(255, 7, 0)] * 4),
    "I;16 TIFF": (saved(Image.fromarray(slope16), "TIFF"), SLOPE),
    "I;16B TIFF": (saved(Image.frombytes("I;16B", (16, 16), slope16.astype(">u2").tobytes()), "TIFF"), SLOPE),
    "16-bit PGM": (b"P5 16 16 65535\n" + slope16.astype(">u2").tobytes(), SLOPE),
    "dark 16-bit PGM": (
        b"P5 16 16 65535\n" + (slope16 // 257).astype(">u2").tobytes(),
        [(v, v, v) for v in (0, 0, 0, 1)],
    ),
    "12-bit PGM": (b"P5 16 16 4095\n" + (slope16 // 16).astype(">u2").tobytes(), SLOPE),
    "dark 16-bit PGM as text": (b"P2 1 1 65535\n255\n", grey(1)),
    "32-bit TIFF": (saved(Image.fromarray(slope16.astype(np.int32)), "TIFF"), SLOPE),
    "float TIFF in 0..1": (saved(Image.fromarray(unit), "TIFF"), UNIT),
    "float TIFF in 0..255": (saved(Image.fromarray(unit * 255), "TIFF"), UNIT),
    "float TIFF in 0..65535": (saved(Image.fromarray(slope16.astype(np.float32)), "TIFF"), SLOPE),
    "float TIFF from below 0": (saved(Image.fromarray(unit * 200 - 100), "TIFF"), UNIT),
    "float TIFF, one number below 0": (saved(Image.fromarray(unit * 0 - 3), "TIFF"), grey(0)),
    "float TIFF with NaN": (saved(Image.fromarray(with_nan), "TIFF"), UNIT),
    "float TIFF of NaN": (saved(Image.fromarray(unit * np.nan), "TIFF"), grey(0)),
    "RGBA on white": (saved(half_alpha, "PNG"), [(0, 0, 0), WHITE] * 2),
    "half transparent": (saved(flat("RGBA", (255, 0, 0, 51)), "PNG"), [(255, 204, 204)] * 4),
    "LA on white": (saved(half_grey_alpha, "PNG"), [(50, 50, 50), WHITE] * 2),
    "transparent palette": (paletted(transparency=bytes([0] * 4)), [WHITE] * 4),
    "transparent GIF": (saved(half_alpha, "GIF"), [(0, 0, 0), WHITE] * 2),
    "transparent colour": (saved(scene, "PNG", transparency=BLUE), [RED, GREEN, WHITE, WHITE]),
    "transparent grey": (saved(flat("L", 100), "PNG", transparency=100), [WHITE] * 4),
    "animated GIF": (saved(flat("RGB", RED), "GIF", **frames(GREEN, BLUE)), [RED] * 4),
    "animated PNG": (saved(flat("RGB", RED), "PNG", **frames(GREEN, BLUE)), [RED] * 4),
    "animated WebP": (saved(flat("RGB", RED), "WEBP", lossless=True, **frames(GREEN)), [RED] * 4),
    "TIFF of several pages": (saved(flat("RGB", RED), "TIFF", **frames(GREEN)), [RED] * 4),
    "1 x 1": (saved(Image.new("RGB", (1, 1), GREEN), "PNG"), [GREEN] * 4),
    "1 x 5000": (saved(Image.new("RGB", (1, 5000), GREEN), "PNG"), [GREEN] * 4),
    "wide": (saved(Image.fromarray(wide), "PNG"), QUARTERS),
    "tall": (saved(Image.fromarray(wide.transpose(1, 0, 2)), "PNG"), [RED, BLUE, GREEN, WHITE]),
}
JPEGS = {
    "JPEG": (saved(scene, "JPEG", quality=95, subsampling=0), QUARTERS),
    "progressive JPEG": (saved(scene, "JPEG", progressive=True, quality=95, subsampling=0), QUARTERS),
    "grey JPEG": (saved(flat("L", 100), "JPEG"), [GREY] * 4),
    "CMYK JPEG": (saved(scene.convert("CMYK"), "JPEG", quality=95, subsampling=0), QUARTERS),
    "MPO": (saved(flat("RGB", RED), "MPO", save_all=True, append_images=[flat("RGB", BLUE)]), [RED] * 4),
    "LAB colours": (saved(flat("LAB", (255, 128, 128)), "TIFF"), [WHITE] * 4),
    "WebP": (saved(flat("RGB", GREY), "WEBP"), [GREY] * 4),
    "large JPEG": (saved(scene.resize((3000, 3000), 0), "JPEG", quality=90), QUARTERS),
}


@pytest.mark.parametrize(("data", "colours"), EXACT.values(), ids=EXACT)
def test_a_format_without_loss_is_read_exactly(data, colours):
    assert quarters(data) == colours


@pytest.mark.parametrize(("data", "colours"), JPEGS.values(), ids=JPEGS)
def test_a_format_with_losses_is_read_nearly(data, colours):
    np.testing.assert_allclose(quarters(data), colours, atol=12)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "stored"),  # how the camera stored what is red, green / blue, white upright
    [
        (1, [[RED, GREEN], [BLUE, WHITE]]),
        (2, [[GREEN, RED], [WHITE, BLUE]]),
        (3, [[WHITE, BLUE], [GREEN, RED]]),
        (4, [[BLUE, WHITE], [RED, GREEN]]),
        (5, [[RED, BLUE], [GREEN, WHITE]]),
        (6, [[GREEN, WHITE], [RED, BLUE]]),
        (7, [[WHITE, GREEN], [BLUE, RED]]),
        (8, [[BLUE, RED], [WHITE, GREEN]]),
    ],
)
def test_the_camera_s_orientation_is_undone(kind, orientation, stored):
    image = Image.fromarray(np.array(stored, np.uint8).repeat(32, 0).repeat(32, 1))
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless: dict[str, dict[str, int]] = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}
    options = lossless.get(kind, {})
    np.testing.assert_allclose(quarters(saved(image, kind, exif=exif, **options)), QUARTERS, atol=12)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_data_do_not_cost_the_image():
    assert quarters(saved(scene, "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")) == QUARTERS


@pytest.mark.parametrize(("side", "size"), [(1000, 32), (300, 64)])
def test_a_large_jpeg_decoded_small_looks_like_one_decoded_whole(side, size):
    y, x = np.mgrid[:side, : side + 400]
    period = side / size  # six of the pixels that are made are a wave
    waves = (127 + 60 * np.sin(x / period) + 60 * np.cos(y / period)).astype(np.uint8)
    data = saved(Image.fromarray(waves), "JPEG", quality=95)
    whole = Image.fromarray(waves[:, 200 : 200 + side]).resize((size, size), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(decode(io.BytesIO(data), size).pixels[0], np.asarray(whole), atol=4)


def test_shrinking_averages_instead_of_picking_pixels():
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    pixels = decode(io.BytesIO(saved(Image.fromarray(stripes), "PNG")), 16).pixels.astype(int)
    assert np.abs(pixels - 127).max() < 30


noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
BROKEN = {
    "truncated PNG": (saved(noise, "PNG")[:5000], "truncated|cannot be decoded"),
    "truncated JPEG": (saved(noise, "JPEG")[:1500], "truncated"),
    "truncated WebP": (saved(noise, "WEBP")[:1000], "cannot be decoded|no image"),
    "truncated BMP": (saved(noise, "BMP")[:5000], "truncated"),
    "truncated TIFF": (saved(noise, "TIFF")[:5000], "cannot be"),
    "truncated GIF": (saved(noise, "GIF")[:1500], "truncated|cannot be decoded"),
    "head of a PNG": (saved(noise, "PNG")[:20], "no image|cannot be decoded"),
    "text": (b"It is not an image.\n", "no image of a known format"),
    "zeros": (bytes(1000), "no image of a known format"),
    "HTML": (b"<!DOCTYPE html><title>404</title>", "no image of a known format"),
    "PNG with a wrong byte": (saved(noise, "PNG")[:4000] + b"!" + saved(noise, "PNG")[4001:], "cannot be decoded"),
    "bomb": (png(20_000, 20_000, 1, 0, [bytes(2500)]), "has more than the 89 million pixels"),
    "half a bomb": (png(10_000, 10_000, 1, 0, [bytes(1250)]), "has 100 million pixels, more than the 89"),
    "HEIC": (b"\0\0\0\x20ftypheic" + bytes(1000), "is HEIC or AVIF, whatever its name, .*; convert it to PNG"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "no image of a known format"),
}


@pytest.mark.parametrize(("data", "reason"), BROKEN.values(), ids=BROKEN)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_is_broken_is_left_out_with_a_reason(data, reason, tmp_path):
    with pytest.raises(Unreadable, match=reason):
        decode(io.BytesIO(data), 16)
    (tmp_path / "a.png").write_bytes(data)
    scene.save(tmp_path / "b.png")
    [(name, said)] = build.stored(scan(tmp_path), 16).skipped
    assert name == "a.png"
    assert "\n" not in said
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_the_limit_on_pixels_is_pillow_s():
    assert MAX_PIXELS == Image.MAX_IMAGE_PIXELS


def test_the_suffix_does_not_matter_to_the_decoder(tmp_path):
    (tmp_path / "really-a.jpg").write_bytes(saved(scene, "PNG"))
    (tmp_path / "LOUD.PNG").write_bytes(saved(scene, "PNG"))
    found = build.stored(scan(tmp_path), 16)
    assert found.skipped == ()
    assert [row[7] for row in found.files()] == ["PNG", "PNG"]


def put(path, data=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(saved(scene, "PNG") if data is None else data)
    return path


def test_files_that_are_no_images_are_left_aside(tmp_path):
    root = tmp_path / "photos"
    put(root / "good.png")
    put(root / "größe 😀 文.png")
    put(root / ("n" * 250 + ".png"))
    put(root / "line\nbreak.png")
    for passed_over in (".hidden.png", ".git/x.png", "__MACOSX/good.png", "Thumbs.db", "@eaDir/a.png"):
        put(root / passed_over)
    for ignored in ("notes.txt", "labels.json", "more.JSON", "no-suffix"):
        put(root / ignored)
    put(root / "empty.jpg", b"")
    put(root / "phone.HEIC")
    (root / "nowhere.png").symlink_to("absent.png")
    (root / "myself.png").symlink_to("myself.png")
    (root / "linked.png").symlink_to("good.png")
    (root / "folder.png").mkdir()
    put(root / "folder.png" / "inside.png")
    (root / "round").mkdir()
    (root / "round" / "again").symlink_to(root)
    (root / "round" / "up").symlink_to("..")
    if hasattr(os, "mkfifo"):
        os.mkfifo(root / "pipe.png")
    found = scan(root)
    good = [
        "folder.png/inside.png",
        "good.png",
        "größe 😀 文.png",
        "line\nbreak.png",
        "linked.png",
        "n" * 250 + ".png",
    ]
    assert sorted(entry.name for entry in found.entries) == sorted(good)
    assert found.ignored == {".txt": 1, ".json": 2, "": 1}
    reasons = dict(found.skipped)
    assert reasons.pop("pipe.png", "is no regular file") == "is no regular file"
    assert reasons == {
        "empty.jpg": "is empty",
        "phone.HEIC": "is HEIC, which is not read; convert it to PNG or JPEG",
        "nowhere.png": "is a link to nothing",
        "myself.png": "is a link to nothing",
    }


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_left_out(tmp_path):
    put(tmp_path / "good.png")
    put(tmp_path / "secret.png").chmod(0)
    assert build.stored(scan(tmp_path), 16).skipped == (("secret.png", "cannot be opened: Permission denied"),)


def test_a_name_of_broken_bytes_is_read(tmp_path):
    try:
        put(tmp_path / os.fsdecode(b"caf\xe9.png"))
    except OSError:
        pytest.skip("this file system refuses such names")
    assert build.stored(scan(tmp_path), 16).files()[0][0] == os.fsdecode(b"caf\xe9.png")
