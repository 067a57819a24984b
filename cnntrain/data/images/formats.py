"""Which image formats are read here, what their files are called, and what a file is that is none of them."""

from functools import cache
from importlib.util import find_spec

from PIL import Image, features

from cnntrain.runtime.extras import how_to_install

# None that starts a program (EPS), none without a signature of its own (TGA), which would take any file for an image.
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "ICO": (".ico",),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpx", ".jpf"),
    "AVIF": (".avif", ".avifs"),
    "HEIF": (".heic", ".heif", ".hif"),  # through pillow-heif
    "JPEG XL": (".jxl",),  # not read; but a photo, which nobody wants to lose without a word
}
# Also those that cannot be read here: they count as images that are broken.
SUFFIXES = frozenset(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)
_FEATURES = {"WEBP": "webp", "JPEG2000": "jpg_2000", "AVIF": "avif"}  # what Pillow may have been built without

# The brands of ISO base media files.
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF = (b"avif", b"avis")

# How formats begin; a file that does and is not read is no other kind of file.
_SIGNS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}

# What files that are no images often are, by how they begin.
_OTHERS = {
    b"version https://git-lfs": "a pointer of Git LFS: run `git lfs pull`",
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"<svg": "an SVG drawing",
    b"%pdf": "a PDF",
    b"pk\x03\x04": "a ZIP archive",
}


@cache  # so that pillow-heif is imported when the first image is read, and not before
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read on this machine; pillow-heif is registered where it is installed."""
    names = [name for name in _SUFFIXES if name not in ("HEIF", "JPEG XL")]
    names = [name for name in names if name not in _FEATURES or features.check(_FEATURES[name])]
    if find_spec("pillow_heif"):
        from pillow_heif import register_heif_opener

        Image.init()  # or Pillow's own plugins would be looked for behind this one
        register_heif_opener()
        names.append("HEIF")
    return tuple(names)


def what_else(content: bytes) -> str:
    """What the content of a file is that none of the `formats` can read."""
    if unread := unread_image(content):
        return unread
    if not content:
        return "not an image but an empty file"
    if begun := next((name for sign, name in _SIGNS.items() if content.startswith(sign)), None):
        return f"cannot be read: begins as a {begun} does, but is damaged, or of a kind that Pillow does not read"
    if content[4:8] == b"ftyp" and content[8:12] not in _HEIF + _AVIF:  # a video, most likely
        return f"not an image but a {content[8:12].decode('ascii', 'replace').strip().upper()} file"
    start = content.lstrip()[:32].lower()
    known = [what for sign, what in _OTHERS.items() if start.startswith(sign)]
    return f"not an image but {known[0]}" if known else f"not an image ({', '.join(formats())} are read)"


def unread_image(content: bytes) -> str:
    """Which image it is, and what to do, where its format is none that is read here; empty for all else."""
    brand = content[8:12] if content[4:8] == b"ftyp" else b""
    if brand in _HEIF and "HEIF" not in formats():
        return f"a HEIC image, for which pillow-heif is wanted: {how_to_install('heic')}, or convert it to JPEG"
    if brand in _AVIF and "AVIF" not in formats():
        return "an AVIF image, which the Pillow installed here cannot read; install a newer one, or convert it to JPEG"
    if content.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")):
        return "a JPEG XL image, which is not read; convert it to JPEG or PNG"
    if content.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")) and "JPEG2000" not in formats():
        return "a JPEG 2000 image, which the Pillow installed here cannot read; convert it to JPEG"
    return ""
