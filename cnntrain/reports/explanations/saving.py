"""Where pictures go: never over a file of the user's, and two images of one name are kept apart."""

import hashlib
import io
import re
from itertools import count
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cnntrain.data.images.decode import is_image_name
from cnntrain.errors import ConfigError, StorageError
from cnntrain.runs.files import write_bytes

_MAKER = "cnntrain"


class Pictures:
    """The pictures of one call of a command.

    Args:
        out: A folder, made where it is missing; or the one picture's file, ending in .png.

    Raises:
        ConfigError: It is named like a picture of another format.
        StorageError: There is a file where the folder should be.
    """

    def __init__(self, out: Path) -> None:
        if is_image_name(out.name) and out.suffix.lower() != ".png" and not out.is_dir():
            raise ConfigError(f"--out {out}: pictures are PNG; name a folder, or a file that ends in .png")
        self.out = out
        self.written: set[Path] = set()
        nearest = next(path for path in (out, *out.absolute().parents) if path.exists() or path.is_symlink())
        if not nearest.is_dir() and not (self.is_file and nearest == out):
            raise StorageError(f"no pictures can be written to {out}: {nearest} is a file; say where with --out")

    @property
    def is_file(self) -> bool:
        """Whether a single file was named."""
        return self.out.suffix.lower() == ".png" and not self.out.is_dir()

    def save(self, picture: Image.Image, image: Path, kind: str, content: bytes) -> Path:
        """Writes `<stem of the image>.<kind>.png`; with `<stem>-2` where that is another image's, or not ours.

        Args:
            picture: What to write.
            image: The file that it shows.
            kind: What it is, such as a method.
            content: Of that file; an earlier picture of the same content and kind is replaced.

        Raises:
            ConfigError: The file that was named exists, and is no picture of ours.
            StorageError: The folder cannot be written.
        """
        digest = hashlib.sha256(content + kind.encode(errors="replace")).hexdigest()
        path = self._free_path(image, kind, digest)
        info = PngInfo()
        info.add_text("Software", _MAKER)
        info.add_text("Source", digest)
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG", pnginfo=info)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{path.parent} cannot be made: {error.strerror}") from error
        write_bytes(path, buffer.getvalue())
        self.written.add(path)
        return path

    def _free_path(self, image: Path, kind: str, digest: str) -> Path:
        if self.is_file:
            if self.out.exists() and not is_own_picture(self.out):
                raise ConfigError(f"{self.out} exists already and is left as it is; name another file with --out")
            return self.out
        stem = image.stem.encode(errors="replace")[:120].decode(errors="ignore")  # file names have up to 255 bytes
        kind = re.sub(r"[^\w.+-]+", "_", kind)[:60]
        for number in count(1):
            path = self.out / f"{stem}{f'-{number}' if number > 1 else ''}.{kind}.png"
            if path not in self.written and (not path.exists() or _source_of(path) == digest):
                return path
        raise AssertionError("numbers do not end")


def is_own_picture(path: Path) -> bool:
    """Whether a file is a picture that `Pictures` has written."""
    return _source_of(path) is not None


def _source_of(path: Path) -> str | None:
    """The digest of what a picture of ours shows; None for other files."""
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            return picture.info.get("Source") if picture.info.get("Software") == _MAKER else None
    except Exception:  # no picture at all: on damaged files Pillow raises nearly every kind of exception
        return None
