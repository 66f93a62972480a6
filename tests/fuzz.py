"""Fuzz every reader: a damaged file or an odd command line ends in a result or in one sentence.

    python tests/fuzz.py --seconds 600 --seed 1
    python tests/fuzz.py --rounds 1000 config image

Each round of each target changes a whole file at random and reads it. A `UserError` (or what stands for one, see
`REFUSALS`) and a result are both right; another exception, more than `LONGEST` seconds or more than `MEMORY` bytes are
faults. Inputs that cause a fault are kept in --failures, and the exit code is 1. CONTRIBUTING.md has the counts of the
longest rounds; `test_fuzz.py` makes a short one.
"""

import argparse
import gzip
import io
import json
import os
import pickle
import signal
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes

import ddim
from damage import damaged
from ddim import cli, model_io, nets, run_folder, schedule
from ddim.data import cache, cifar, decode, mnist
from ddim.errors import UserError
from ddim.experiments import experiments
from ddim.experiments import results as kept
from ddim.train import Plan, Recipe, checkpoints
from ddim.train import recipe as recipes
from ddim.train.state import State

REFUSALS = (UserError, decode.Unreadable)
LONGEST = 20.0  # seconds of processor time for one input
LONGEST_SENTENCE = 800  # characters
MEMORY = 3 << 30  # bytes, beyond those of the imported packages
NASTY: tuple[Any, ...] = (None, True, -1, 0, 1, 0.5, -1e308, 1e308, 10**30, 2**63, 2**31)
NASTY += ("", "x", "BOOL", "I64", "é" * 300, [], {}, [[[]]], [None], {"name": 1})
WORDS: tuple[str, ...] = ("-1", "0", "1", "0.5", "1e308", "-1e308", "nan", "inf", "1" + 20 * "0", "9999999999")
WORDS += ("", "x", ",", "1,2", "0x10", "é\udce9", "~", ".", "/", "None", "True")


@dataclass(frozen=True)
class Target:
    """A reader, whole files for it, and how to damage one."""

    name: str  # of the file
    wholes: list[bytes]
    read: Callable[[Path], object]
    damage: Callable[[bytes, Random], bytes]


# Damages


def scramble(data: bytes, rng: Random) -> bytes:
    return next(damaged(data, 1, rng.getrandbits(64)))


def alter(content: Any, rng: Random) -> Any:
    """Replace, remove or add a value somewhere in plain data."""
    if isinstance(content, dict) and content and rng.random() < 0.9:
        name = rng.choice(list(content))
        match rng.randrange(8):
            case 0:
                return {key: value for key, value in content.items() if key != name}
            case 1:
                return content | {"surplus": rng.choice(NASTY)}
            case _:
                return content | {name: alter(content[name], rng)}
    if isinstance(content, list) and content and rng.random() < 0.8:
        at = rng.randrange(len(content))
        return [*content[:at], alter(content[at], rng), *content[at + rng.randrange(2) :]]
    return rng.choice(NASTY)


def alter_json(data: bytes, rng: Random) -> bytes:
    return json.dumps(alter(json.loads(data), rng)).encode() if rng.random() < 0.7 else scramble(data, rng)


def alter_header(data: bytes, rng: Random) -> bytes:
    """Alter the JSON header of a safetensors file, or scramble the file."""
    if rng.random() < 0.4:
        return scramble(data, rng)
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(alter(json.loads(data[8 : 8 + length]), rng)).encode()
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def alter_signed(data: bytes, rng: Random) -> bytes:
    """Alter the numbers or the tensors of a checkpoint, and sign it anew."""
    tensors = from_bytes(data)
    length = int.from_bytes(data[:8], "little")
    numbers = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["ddim"])
    del numbers["digest"]
    if rng.random() < 0.6:
        altered = alter(numbers, rng)
        numbers = altered if isinstance(altered, dict) else numbers
    else:
        name = rng.choice(list(tensors))
        match rng.randrange(4):
            case 0:
                del tensors[name]
            case 1:
                tensors[name] = tensors[name][:0].clone()
            case 2:
                tensors[name] = tensors[name].to(rng.choice((torch.float64, torch.int8, torch.bool, torch.bfloat16)))
            case 3:
                tensors["surplus"] = torch.zeros(2)
    header = json.dumps({**numbers, "digest": checkpoints._digest(tensors, numbers)})
    return to_bytes(tensors, metadata={"ddim": header})


def in_gzip(data: bytes, rng: Random) -> bytes:
    """Scramble what a gzip file holds, or the file."""
    if rng.random() < 0.1:
        return scramble(data, rng)
    return gzip.compress(scramble(gzip.decompress(data), rng), 1, mtime=0)


def in_tar(data: bytes, rng: Random) -> bytes:
    """Scramble one header of a gzipped tar archive and correct its checksum, or scramble the archive."""
    if rng.random() < 0.3:
        return in_gzip(data, rng)
    archive = bytearray(gzip.decompress(data))
    start = rng.choice([at for at in range(0, len(archive), 512) if archive[at + 257 : at + 262] == b"ustar"])
    header = bytearray(scramble(bytes(archive[start : start + 512]), rng)[:512].ljust(512, b"\0"))
    if rng.random() < 0.5:  # another type of member, or a size in base 256
        header[156] = rng.choice(b"0157LKxgS")
        header[124:136] = rng.choice((b"\x80" + rng.randbytes(11), b"77777777777\0", bytes(header[124:136])))
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    archive[start : start + 512] = header
    return gzip.compress(archive, 1, mtime=0)


# Targets


def targets(folder: Path) -> dict[str, Target]:
    """Return all targets; `folder` is where their files may be written."""
    idx = b"\0\0\x08\x03" + np.array([3, 4, 4], ">u4").tobytes() + bytes(range(48))
    batch = {"data": np.arange(2 * 3072).astype(np.uint8).reshape(2, 3072), "labels": [3, 7]}
    batches = [pickle.dumps(batch, protocol) for protocol in (2, 3, 4)]
    model = _model()
    model_io.save(model, folder / "model", recipe={"data": "digits", "plan": {"batch_size": 8}})
    config, weights = ((folder / "model" / name).read_bytes() for name in ("config.json", "model.safetensors"))
    state = State(model.network, Plan(steps=5))
    checkpoint = checkpoints.save(state, folder / "saved").read_bytes()
    pixels = np.arange(6 * 3 * 4 * 4).astype(np.uint8).reshape(6, 3, 4, 4)
    facts = [cache.Fact(f"{i}.png", i % 2, "train", f"{i}", 4, 4, "RGB", "PNG", True, 0, 95, False) for i in range(6)]
    about = {"classes": ["a", "b"], "train": 5, "skipped": [("x.png", "is empty")]}
    cache.write(folder / "copy", [pixels], (6, 3, 4, 4), facts, about)
    levels = dict.fromkeys(("held_out_by_level", "train_by_level"), [0.1] * 10)
    line = {"step": 9, "epoch": 1.0, "loss": 0.5, "held_out": 0.4, **levels}
    toml = b'data = "digits"\nconditional = true\n[plan]\nsteps = 5\nema = [0.1, 0.05]\nprecision = "fp32"\n'
    archives = [
        _archive(batches[0], dialect) for dialect in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    ]

    def read_idx(path: Path) -> object:
        return mnist.read_idx(path, dims=3)

    return {
        "idx": Target("idx", [idx], read_idx, scramble),
        "idx-gzip": Target("idx", [gzip.compress(idx, mtime=0)], read_idx, in_gzip),
        "cifar": Target("data_batch_1", batches, _read_batch, scramble),
        "archive": Target("cifar-10-python.tar.gz", archives, _read_archive, in_tar),
        "copy": Target("copy", [(folder / "copy").read_bytes()], lambda path: _read_copy(path, pixels), alter_header),
        "image": Target("image", list(_images()), _read_image, scramble),
        "config": Target("model/config.json", [config], _read_model, alter_json),
        "weights": Target("model/model.safetensors", [weights], _read_model, alter_header),
        "checkpoint": Target("saved/checkpoints/00000000.safetensors", [checkpoint], _resume, alter_signed),
        "recipe": Target("recipe.toml", [toml], recipes.read, scramble),
        "result": Target("results/x.json", [json.dumps(one).encode() for one in _results()], _read_results, alter_json),
        "metrics": Target("metrics.jsonl", [json.dumps(line).encode()], run_folder.read_metrics, alter_json),
    }


def _model() -> ddim.Denoiser:
    torch.manual_seed(0)
    return ddim.Denoiser(nets.build("plain", 1, "tiny", widths=(8, 16)), schedule.linear(T=20), shape=(1, 8, 8))


def _archive(batch: bytes, dialect: int) -> bytes:
    """Return a gzipped tar archive; one of its names is so long that it has a header of its own."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", format=dialect) as archive:
        for i in range(1, 6):
            member = tarfile.TarInfo(f"cifar-10-batches-py/{'long' * 30 * (i == 1 and dialect > 0)}/data_batch_{i}")
            member.size = len(batch)
            archive.addfile(member, io.BytesIO(batch))
    return file.getvalue()


def _read_batch(path: Path) -> object:
    return cifar.read_python(path.read_bytes(), path.name)


def _read_image(path: Path) -> object:
    with path.open("rb") as file:
        return decode.decode(file, 8)


def _read_archive(path: Path) -> object:
    return cifar._unpack(path, cifar.PYTHON, "train")


def _read_copy(path: Path, pixels: Any) -> object:
    stored = cache.read(path)
    if stored is None:
        raise UserError("It is made anew.")
    assert np.array_equal(stored.pixels.numpy(), pixels), "a damaged copy was taken for a whole one"
    assert (stored.classes, stored.train, stored.labels.tolist()) == (("a", "b"), 5, [0, 1] * 3)
    assert [fact.name for fact in stored.files()] == [f"{i}.png" for i in range(6)]
    return stored


def _read_model(path: Path) -> object:
    """Load a model and draw one image in one step; the other of its two files is whole."""
    model_io.read_config(path.parent)
    return ddim.load(path.parent).sample(1, steps=1, progress=False)


def _resume(path: Path) -> object:
    """Resume from a checkpoint; if it is refused, the state is the one before, and trains on."""
    state = State(_model().network, Plan(steps=5))
    try:
        if checkpoints.resume(state, path.parents[1]) is None:
            raise UserError("There is no checkpoint.")
    finally:
        assert all(torch.is_floating_point(weight) for weight in state.network.parameters())
        state.numbers(), state.tensors()
    return state


def _images() -> Any:
    pixels = Image.fromarray(np.arange(12 * 10 * 3).astype(np.uint8).reshape(12, 10, 3))
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM"):
        for mode in ("RGB", "L", "P", "1"):
            file = io.BytesIO()
            try:
                pixels.convert(mode).save(file, kind)
            except OSError:  # a format without this mode
                continue
            yield file.getvalue()


def _results() -> list[dict[str, Any]]:
    from madeup import results

    return [facts | {"weights": "0", "experiment": name} for name, facts in results().items()]


def _read_results(path: Path) -> object:
    """Read a result as that of every experiment."""
    content = path.read_bytes()
    found = []
    for name, experiment in experiments.items():
        (path.parent / f"{name}.json").write_bytes(content)
        found.append(kept.read(path.parents[1], experiment).result)
    return any(found)


def command_line(rng: Random) -> list[str]:
    """Return a command line with one or two flags that have odd values; what it may do is little."""
    flags = [one.name.replace("_", "-") for one in (*fields(Plan), *fields(Recipe)) if one.name not in ("plan", "data")]
    match rng.randrange(3):
        case 0:
            words = ["sample", "mnist", "--count", "1", "--steps", "1", "--out", "picture.png"]
            flags = ["count", "steps", "sampler", "eta", "spacing", "labels", "guidance", "seed", "first", "batch-size"]
            flags += ["guidance-interval", "autoguide", "weight"]
        case 1:
            words = ["train", "digits", "--size", "tiny", "--network", "plain", "--steps", "1", "--batch-size", "2"]
            words += ["--minutes", "0.01", "--device", "cpu", "--overwrite", "--out", "run"]
            flags.remove("compile")
        case _:
            words = ["inspect", "digits", "--out", "picture.png"]
            flags = ["classes", "image-size", "out", "data-dir"]
    for _ in range(rng.choice((1, 1, 2))):
        value = rng.choice(WORDS if rng.random() < 0.5 else ("1", "2", "0.5"))
        words.append(f"--{rng.choice(flags)}={value}")
    return words


# The rounds


class Slow(BaseException):
    """An input took more than `LONGEST`."""


def attempt(action: Callable[[], object]) -> str:
    """Return "read" or "refused"; raise whatever else happens."""

    def stop(*_: object) -> None:
        raise Slow

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, LONGEST)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            action()
        return "read"
    except REFUSALS as refusal:
        sentence = str(refusal)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    assert "\n" not in sentence, "a refusal is one line"
    assert len(sentence) < LONGEST_SENTENCE, sentence
    return "refused"


def run_command(words: list[str]) -> None:
    """Run a command; exit code 2 counts as refused, 0 as read."""
    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            cli.main(words)
    except SystemExit as end:
        if end.code == 2:
            raise UserError("It was refused.") from None
        raise RuntimeError(f"Exit code {end.code}: {said.getvalue()}") from end


def fuzz(names: list[str], rounds: int, seconds: float, seed: int, failures: Path) -> dict[str, Counter[str]]:
    """Run rounds until their number or the time is used up; return what happened, for each target."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        known = targets(folder)
        os.chdir(folder)
        for number, name in ((number, name) for number in range(rounds) for name in names):
            if time.monotonic() > end:
                break
            rng = Random(f"{seed} {number} {name}")
            if name == "command":
                words = command_line(rng)
                data = " ".join(words).encode(errors="surrogateescape")
                action: Callable[[], object] = partial[object](run_command, words)
            else:
                path, whole = folder / known[name].name, rng.choice(known[name].wholes)
                data, action = known[name].damage(whole, rng), partial(known[name].read, path)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            try:
                counts[name][attempt(action)] += 1
            except (Exception, Slow):
                counts[name]["fault"] += 1
                failures.mkdir(parents=True, exist_ok=True)
                (failures / f"{name}-{seed}-{number}").write_bytes(data)
                print(f"{name}, round {number}:", traceback.format_exc(limit=-3), file=sys.stderr)
            if name != "command":
                path.write_bytes(whole)  # the two files of a model are two targets
    return counts


def limit_memory() -> None:
    """Let the process take `MEMORY` bytes more than now; Linux only."""
    try:
        import resource

        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
    except (ImportError, OSError):
        print("The memory is not limited on this system.", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", help="names of targets; all if none is given")
    parser.add_argument("--rounds", type=int, default=10**9)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"))
    flags = parser.parse_args()
    failures = flags.failures.absolute()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        names = [*targets(Path(scratch)), "command"]
    if unknown := set(flags.targets) - set(names):
        parser.error(f"unknown targets {unknown}; choose from {', '.join(names)}")
    limit_memory()
    counts = fuzz(flags.targets or names, flags.rounds, flags.seconds, flags.seed, failures)
    for name, count in counts.items():
        print(f"{name:12}", *(f"{count[what]:9,} {what}" for what in ("read", "refused", "fault")))
    total = sum(counts.values(), Counter())
    print(f"{total.total():,} inputs, {total['fault']} faults, seed {flags.seed}")
    return int(total["fault"] > 0)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main())
