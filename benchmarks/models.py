"""Real models for benchmarks, fetched by package name from the Python package index and cached.

usage: python benchmarks/models.py [FOLDER]      prints what it fetched
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "models"

# package==version: {file inside the wheel: name of the model}
PACKAGES = {
    "rapidocr-onnxruntime==1.4.4": {
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx": "ppocr_v4_det",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx": "ppocr_v4_rec",
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx": "ppocr_cls",
    },
    "silero-vad==6.2.3": {"silero_vad/data/silero_vad.onnx": "silero_vad_stream"},
    "magika==1.0.3": {"magika/models/standard_v3_3/model.onnx": "magika"},
}


def fetch(folder: Path = CACHE) -> dict[str, Path]:
    """Models by name; those that are there already are not fetched again."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Path] = {}
    for package, files in PACKAGES.items():
        wanted = {inner: folder / f"{name}.onnx" for inner, name in files.items()}
        if not all(path.exists() for path in wanted.values()):
            _extract(package, wanted)
        found |= {path.stem: path for path in wanted.values() if path.exists()}
    return found


def _extract(package: str, wanted: dict[str, Path]) -> None:
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", place, package]
        subprocess.run(command, check=True)
        (wheel,) = Path(place).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for inner, path in wanted.items():
                path.write_bytes(archive.read(inner))


if __name__ == "__main__":
    for name, path in fetch(Path(sys.argv[1]) if sys.argv[1:] else CACHE).items():
        print(name, path)
