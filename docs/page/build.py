"""Build the page without a server: the shipped MNIST model in the visitor's browser, as static files.

    python docs/page/build.py                # into build/page
    python -m http.server -d build/page      # or any other host of files; nothing else is needed

The page needs Python with `ddim[fast]` and npm to be built, and nothing to be visited but its own files. Of npm's
packages only two files are taken, of the versions and with the checksums of package-lock.json.
"""

import argparse
import base64
import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import IO

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import ddim
from ddim.files import write_bytes

HERE = Path(__file__).resolve().parent
SOURCES = ("index.html", "style.css", "page.js", "pictures.js", "sampler.js", "noise.js", "network.js")
RUNTIME = "onnxruntime-web"
BUNDLE, BINARY = "package/dist/ort.wasm.bundle.min.mjs", "package/dist/ort-wasm-simd-threaded.wasm"
SMALL = 256  # numbers: shorter constants stay float32


def build(out: Path, packages: Path = HERE / ".packages") -> Path:
    """Write the page into a folder, and return it.

    Args:
        out: the folder; what another build left there is replaced.
        packages: where npm's packages are kept from one build to the next.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name in SOURCES:
        shutil.copyfile(HERE / name, out / name)
    with tarfile.open(package(RUNTIME, packages)) as files:
        write_bytes(out / "vendor" / Path(BUNDLE).name, member(files, BUNDLE))
        write_bytes(out / "vendor/ort.wasm.gz", gzip.compress(member(files, BINARY), 9, mtime=0))
    with tempfile.TemporaryDirectory() as folder:
        ddim.interop.to_onnx(ddim.load("mnist", backend="torch"), folder)
        write_bytes(out / "model/network.onnx", halved(Path(folder, "network.onnx").read_bytes()))
        shutil.copyfile(Path(folder, "model.json"), out / "model/model.json")
    return out


def package(name: str, folder: Path) -> Path:
    """Return the file of a package of package-lock.json, which npm fetches if it is missing.

    Raises `SystemExit` if npm fails, or if the checksum is another one than that of package-lock.json.
    """
    lock = json.loads((HERE / "package-lock.json").read_text(encoding="utf-8"))["packages"][f"node_modules/{name}"]
    path = folder / f"{name}-{lock['version']}.tgz"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", "--silent", "--pack-destination", str(folder), f"{name}@{lock['version']}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        if done.returncode:
            raise SystemExit(f"npm could not fetch {name} {lock['version']}: {done.stderr.strip()[:300]}")
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != lock["integrity"]:
        path.unlink()
        raise SystemExit(f"{path} had another checksum than package-lock.json says; it is removed, so build again.")
    return path


def member(files: tarfile.TarFile, name: str) -> bytes:
    """Return the content of a file in an archive."""
    file: IO[bytes] | None = files.extractfile(name)
    assert file is not None, name
    return file.read()


def halved(program: bytes) -> bytes:
    """Return an ONNX program whose weights are stored as float16 where that loses nothing, and cast when it is loaded.

    The weights of the shipped model are stored as float16, so the program computes the same.
    """
    model = onnx.load_from_string(program)
    graph, casts = model.graph, []
    for weight in [one for one in graph.initializer if one.data_type == TensorProto.FLOAT]:
        exact = numpy_helper.to_array(weight)
        half = exact.astype(np.float16)
        if exact.size < SMALL or not np.array_equal(half.astype(np.float32), exact):
            continue
        graph.initializer.remove(weight)
        graph.initializer.append(numpy_helper.from_array(half, f"{weight.name}.half"))
        casts.append(helper.make_node("Cast", [f"{weight.name}.half"], [weight.name], to=TensorProto.FLOAT))
    for node in casts:
        graph.node.insert(0, node)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def main() -> None:
    """Build the page into the folder that the flags name, and print its size."""
    parser = argparse.ArgumentParser(description="Build the page without a server.")
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "build/page", help="the folder to write")
    out = build(parser.parse_args().out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out} holds the page, {size / 1e6:.1f} MB; serve it with `{sys.executable} -m http.server -d {out}`.")


if __name__ == "__main__":
    main()
