"""What is handed on as a package."""

import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NEEDED = ("cnntrain/py.typed", "cnntrain/reports/pages/", "cnntrain/cli/data/check.py")


def test_a_wheel_and_a_source_archive_hold_what_is_needed_types_included(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = pytest.importorskip("hatchling.build")
    monkeypatch.chdir(ROOT)
    with zipfile.ZipFile(tmp_path / backend.build_wheel(str(tmp_path))) as wheel:
        in_wheel = wheel.namelist()
    with tarfile.open(tmp_path / backend.build_sdist(str(tmp_path))) as archive:
        in_archive = [name.partition("/")[2] for name in archive.getnames()]
    for names in (in_wheel, in_archive):
        for needed in NEEDED:
            assert any(name.startswith(needed) for name in names), needed
    assert "cnntrain/configs/digits_lenet.yaml" in in_wheel
    assert "configs/digits_lenet.yaml" in in_archive
