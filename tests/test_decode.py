"""Image files come out as a person would see them."""

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from cnntrain.data.images import decode, formats
from cnntrain.data.images.decode import decode_image
from cnntrain.errors import DataError

RAMP = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (16, 1))  # 16 high, 32 wide, dark on the left


def saved(folder: Path, image: Image.Image, name: str = "x.png", **options: object) -> Path:
    image.save(folder / name, **options)  # type: ignore[arg-type]
    return folder / name


def as_array(path: Path, channels: int) -> np.ndarray:  # type: ignore[type-arg]
    return np.asarray(decode_image(path.read_bytes(), channels, path)).astype(int)


def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(RAMP.astype(np.uint16) * 257))
    np.testing.assert_array_equal(as_array(path, 1), RAMP)


def test_sixteen_bit_tiff_is_scaled_too(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(RAMP.astype(np.uint16) * 257), "x.tif")
    np.testing.assert_array_equal(as_array(path, 1), RAMP)


@pytest.mark.parametrize("scale", [1.0, 1 / 255])
def test_float_tiff_is_scaled_from_either_range(tmp_path: Path, scale: float) -> None:
    path = saved(tmp_path, Image.fromarray(RAMP.astype(np.float32) * scale), "x.tif")
    np.testing.assert_allclose(as_array(path, 1), RAMP, atol=1)


def test_a_pixel_of_a_float_tiff_that_is_infinite_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    values = RAMP.astype(np.float32) / 255
    values[0, :3] = np.inf, -np.inf, np.nan
    pixels = as_array(saved(tmp_path, Image.fromarray(values), "x.tif"), 1)
    np.testing.assert_allclose(pixels[1:], RAMP[1:], atol=1)
    assert pixels[0, :3].tolist() == [255, 0, 0]


def test_a_lab_tiff_is_read_for_a_grey_network_too(tmp_path: Path) -> None:
    neutral = Image.new("L", RAMP.shape[::-1], 0)  # a and b, which are signed
    path = saved(tmp_path, Image.merge("LAB", [Image.fromarray(RAMP), neutral, neutral]), "x.tif")
    colours = as_array(path, 3).astype(int)
    np.testing.assert_allclose(as_array(path, 1), (colours @ [299, 587, 114]) / 1000, atol=1)


def test_a_tiff_that_pillow_cannot_read_is_not_said_to_be_no_image(tmp_path: Path) -> None:
    content = saved(tmp_path, Image.fromarray(RAMP), "x.tif").read_bytes()
    odd = content.replace(struct.pack("<HHII", 258, 3, 1, 8), struct.pack("<HHII", 258, 3, 1, 11))
    assert odd != content
    with pytest.raises(DataError, match="begins as a TIFF does, but is damaged, or of a kind that Pillow does"):
        decode_image(odd, 3, tmp_path / "x.tif")


def test_transparency_is_shown_on_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((0, 0), (200, 10, 10, 255))
    pixels = as_array(saved(tmp_path, image), 3)
    assert pixels[0, 0].tolist() == [200, 10, 10]
    assert pixels[3, 3].tolist() == [255, 255, 255]


def test_transparent_palette_is_shown_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 1), 1)
    pixels = as_array(saved(tmp_path, image, transparency=0), 3)
    assert pixels[1, 1].tolist() == [200, 100, 50]
    assert pixels[0, 0].tolist() == [255, 255, 255]


def test_grey_with_alpha(tmp_path: Path) -> None:
    pixels = as_array(saved(tmp_path, Image.merge("LA", (Image.new("L", (2, 2), 9), Image.new("L", (2, 2), 0)))), 1)
    assert pixels.tolist() == [[255, 255], [255, 255]]


def test_camera_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: rotate by 90 degrees clockwise
    path = saved(tmp_path, Image.fromarray(RAMP), "x.jpg", exif=exif, quality=95)
    pixels = as_array(path, 1)
    assert pixels.shape == (32, 16)
    np.testing.assert_allclose(pixels, np.rot90(RAMP, k=-1), atol=8)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Image.fromarray(RAMP).convert("CMYK"),
        lambda: Image.fromarray(RAMP).convert("YCbCr"),
        lambda: Image.fromarray(RAMP).convert("RGB"),
        lambda: Image.fromarray(RAMP),
    ],
)
def test_every_colour_space_becomes_rgb(tmp_path: Path, make: Callable[[], Image.Image]) -> None:
    path = saved(tmp_path, make(), "x.jpg", quality=95)
    np.testing.assert_allclose(as_array(path, 3), np.repeat(RAMP[..., None], 3, axis=2), atol=12)


def test_one_bit_images_are_black_and_white(tmp_path: Path) -> None:
    pixels = as_array(saved(tmp_path, Image.fromarray(RAMP > 127)), 1)
    assert set(np.unique(pixels)) == {0, 255}


def test_colour_becomes_luminance_for_a_grey_network(tmp_path: Path) -> None:
    pixels = as_array(saved(tmp_path, Image.new("RGB", (2, 2), (255, 0, 0))), 1)
    assert pixels[0, 0] == 76  # 0.299 x 255


def test_of_an_animation_the_first_frame_counts(tmp_path: Path) -> None:
    frames = [Image.new("L", (4, 4), level) for level in (40, 200)]
    path = saved(tmp_path, frames[0], "x.gif", save_all=True, append_images=frames[1:])
    assert as_array(path, 1)[0, 0] == 40


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.png: (not an image|cannot be read)"):
        as_array(path, 3)


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    path = saved(
        tmp_path, Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)), "x.jpg"
    )
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match=r"x\.jpg: cannot be read as an image"):
        as_array(path, 3)


def test_formats_outside_the_list_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("RGB", (4, 4)), "x.tga")
    with pytest.raises(DataError, match="not an image"):
        as_array(path.rename(tmp_path / "x.png"), 3)


def test_huge_images_are_refused_before_they_unfold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MAX_BYTES", 1100)
    with pytest.raises(DataError, match="too large"):  # the file alone
        decode.read_bytes(saved(tmp_path, Image.effect_noise((64, 64), 99), "noise.png"))
    content = saved(tmp_path, Image.fromarray(RAMP)).read_bytes()
    assert decode_image(content, 1, Path("x.png")).size == (32, 16)  # 1 byte a pixel, twice where it is turned
    with pytest.raises(DataError, match=r"x\.png: too large: 0 MB of memory are needed to decode 32 x 16 pixels"):
        decode_image(content, 3, Path("x.png"))  # 4 bytes a pixel of RGB


MODES = {
    "i16.png": lambda: Image.fromarray(RAMP.astype(np.uint16) * 257),
    "i16.tif": lambda: Image.fromarray(RAMP.astype(np.uint16) * 257),
    "i32.tif": lambda: Image.fromarray(RAMP.astype(np.int32) * 257),
    "float.tif": lambda: Image.fromarray(RAMP.astype(np.float32) / 255),
    "grey alpha.png": lambda: Image.merge("LA", (Image.fromarray(RAMP), Image.fromarray(RAMP.copy()[::-1]))),
    "colour alpha.webp": lambda: Image.merge("RGBA", [Image.fromarray(RAMP)] * 4),
    "palette.png": lambda: Image.fromarray(RAMP).convert("RGB").quantize(16),
    "cmyk.tif": lambda: Image.fromarray(RAMP).convert("CMYK"),
    "one bit.png": lambda: Image.fromarray(RAMP > 127),
    "colour.bmp": lambda: Image.fromarray(RAMP).convert("RGB"),
}


@pytest.mark.parametrize("name", MODES)
def test_converting_in_bands_changes_no_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = saved(tmp_path, MODES[name](), name, **({"transparency": 3} if name == "palette.png" else {}))
    whole = [as_array(path, channels) for channels in (1, 3)]
    monkeypatch.setattr(decode, "_BAND_PIXELS", 5 * 32)  # 16 rows by 5 do not come out even
    for channels, pixels in zip((1, 3), whole, strict=True):
        np.testing.assert_array_equal(as_array(path, channels), pixels)


# What the kernel says, in a process of its own: bytes that decoding took at most, and what was thought beforehand.
MEASURE = """
import resource, sys
from io import BytesIO
from pathlib import Path
from PIL import Image, features
from cnntrain.data.images import decode, formats
from cnntrain.data.images.formats import formats
from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.errors import CnntrainError
formats()
Image.init()
fitting = Preprocessing(3, 32, 32, "crop", (0.5,) * 3, (0.5,) * 3)
def memory(what):
    return 1024 * next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(what))
for name in sys.argv[1:]:
    content = Path(name).read_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    decode.fit_content(content, fitting, Path(name))
    taken = memory("VmHWM") - before
    with Image.open(BytesIO(content)) as image:
        thought = decode._decoding_bytes(image, 3)
    limit = memory("VmSize") + 5 * 2**20  # the images are of 16 MB and more
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    try:
        decode.fit_content(content, fitting, Path(name))
        outcome = "decoded"
    except CnntrainError as error:
        outcome = type(error).__name__
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    print(taken, thought, outcome)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_large_images_take_the_memory_that_was_thought_and_its_want_is_no_damage(tmp_path: Path) -> None:
    side = 2048
    ramp = np.tile(np.linspace(0, 65535, side).astype(np.uint16), (side, 1))
    grey = Image.fromarray((ramp >> 8).astype(np.uint8))
    rgba = Image.merge("RGBA", [grey] * 4)
    images: dict[str, tuple[Image.Image, dict[str, object]]] = {
        "i16.png": (Image.fromarray(ramp), {}),
        "float.tif": (Image.fromarray(ramp.astype(np.float32)), {"compression": "tiff_lzw"}),
        "rgba.png": (rgba, {}),
        "rgb.webp": (rgba.convert("RGB"), {"lossless": True, "method": 0}),
        "cmyk.tif": (rgba.convert("RGB").convert("CMYK"), {"compression": "tiff_lzw"}),
        "progressive.jpg": (rgba.convert("RGB"), {"progressive": True, "subsampling": 0}),
    }
    paths = [str(saved(tmp_path, image, name, **options)) for name, (image, options) in images.items()]
    done = subprocess.run([sys.executable, "-c", MEASURE, *paths], capture_output=True, text=True, check=True)
    slack = 60 * 2**20  # of bands: some arrays of 8 MB, which are the same for an image of any size
    for name, line in zip(images, done.stdout.splitlines(), strict=True):
        taken, thought, outcome = line.split()
        if name != "progressive.jpg":
            assert int(taken) <= int(thought) + slack, name
        if name not in ("float.tif", "cmyk.tif"):  # which find what those before them left
            assert outcome == "DeviceError", name


@pytest.mark.parametrize(
    ("name", "feature"), [("x.jfif", "jpg"), ("x.jpe", "jpg"), ("x.avif", "avif"), ("x.jp2", "jpg_2000"), ("x.j2k", "jpg_2000"), ("x.ico", "zlib"), ("x.pnm", "zlib"), ("x.apng", "zlib")]
)  # fmt: skip
def test_less_usual_formats_are_images_where_pillow_reads_them(tmp_path: Path, name: str, feature: str) -> None:
    if not features.check(feature):
        pytest.skip(f"this Pillow lacks {feature}")
    assert decode.is_image_name(name.upper())
    square = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (32, 1))
    kind = {".jfif": "JPEG", ".jpe": "JPEG", ".pnm": "PPM", ".apng": "PNG"}.get(Path(name).suffix)
    path = saved(tmp_path, Image.fromarray(square).convert("RGB"), name, **({"format": kind} if kind else {}))
    np.testing.assert_allclose(as_array(path, 1), square, atol=6)


def test_of_an_icon_the_largest_picture_is_taken_at_the_size_that_it_says_itself(tmp_path: Path) -> None:
    content = bytearray(
        saved(tmp_path, Image.fromarray(RAMP).resize((64, 64)), "x.ico", sizes=[(16, 16), (64, 64)]).read_bytes()
    )
    assert decode_image(bytes(content), 1, Path("x.ico")).size == (64, 64)
    content[22:24] = b"\xff\xff"  # the table's second entry says 255 x 255
    assert decode_image(bytes(content), 1, Path("x.ico")).size == (64, 64)


def test_no_format_that_starts_a_program_is_read() -> None:
    with pytest.raises(DataError, match="not an image"):
        decode_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n", 3, Path("x.jpg"))
    assert not decode.is_image_name("x.eps")


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 40


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (HEIC, r"a HEIC image, for which pillow-heif is wanted: pip install 'cnntrain\[heic\]'"),
        (HEIC.replace(b"heic", b"avif"), "an AVIF image, which the Pillow installed here cannot read"),
        (HEIC.replace(b"heic", b"qt  "), "not an image but a QT file"),
        (b"\xff\x0a" + b"\0" * 40, "a JPEG XL image, which is not read"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS"),
    ],
)
def test_what_cannot_be_read_here_says_what_it_is(
    monkeypatch: pytest.MonkeyPatch, content: bytes, expected: str
) -> None:
    for module in (formats, decode):
        monkeypatch.setattr(module, "formats", lambda: ("JPEG", "PNG"))
    with pytest.raises(DataError, match=expected):
        decode_image(content, 3, Path("x.jpg"))


def test_heic_is_read_through_pillow_heif(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    assert "HEIF" in formats.formats()
    wide = np.kron(RAMP, np.ones((4, 4), np.uint8))
    pixels = as_array(saved(tmp_path, Image.fromarray(wide).convert("RGB"), "x.heic", quality=95), 1)
    np.testing.assert_allclose(pixels, wide, atol=12)
