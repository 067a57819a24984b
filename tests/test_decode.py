"""Image files come out as a person would see them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnntrain.data import decode
from cnntrain.data.decode import decode_image
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
    monkeypatch.setattr(decode, "MAX_PIXELS", 100)
    with pytest.raises(DataError, match=r"too large \(32 x 16, at most 100 pixels\)"):
        as_array(saved(tmp_path, Image.fromarray(RAMP)), 1)
