"""The checkpoints of a run: which are kept, and that a damaged one is known, whatever has happened to it."""

import errno
import json
import math
import os
import random
import signal

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from torch import nn

from ddim.errors import UserError
from ddim.train import Plan, checkpoints
from ddim.train.state import State

resource = pytest.importorskip("resource", reason="POSIX limits the size of files")


def tiny(seed=0, outputs=2, accumulate=1):
    """A state with every kind of content: weights, an average, moments, and numbers that are not their defaults."""
    torch.manual_seed(seed)
    state = State(nn.Linear(2, outputs), Plan(ema=(0.1,), accumulate=accumulate))
    state.network(torch.ones(1, 2)).sum().backward()
    state.optimizer.step()
    state.step, state.seconds, state.lines, state.losses = 1, 0.125, 7, (0.1, 3)
    return state


def put(state, folder, *steps):
    for state.step in steps:
        checkpoints.save(state, folder)


def look(folder):
    """Every file below a folder, with its content and the time at which it was written."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("stride", [1, 7, 64, None])
def test_as_many_are_kept_as_the_steps_have_binary_digits(stride):
    """And always the two newest. Every checkpoint that was written is offered once, as a run does it."""
    rng = random.Random(0)
    kept, step, seen = set(), 0, []
    while step < 6000:
        seen.append(step)
        kept = checkpoints.worth_keeping(sorted(kept | {step}))
        assert set(seen[-2:]) <= kept
        assert len(kept) <= math.log2(step + 1) + 3
        assert {one.bit_length() for one in kept} == {one.bit_length() for one in seen}  # from all ages
        step += stride or rng.randint(1, 300)
    assert len(kept) >= 6


def test_the_others_are_removed(tmp_path):
    put(tiny(), tmp_path, *range(41))
    assert checkpoints.steps(tmp_path) == [0, 1, 3, 7, 15, 31, 39, 40]
    assert sorted(os.listdir(tmp_path / "checkpoints")) == [f"{s:08d}.safetensors" for s in checkpoints.steps(tmp_path)]


def test_what_was_saved_comes_back(tmp_path):
    put(tiny(), tmp_path, 5)
    state = tiny(seed=1)
    assert checkpoints.resume(state, tmp_path) == 5
    same = tiny()
    assert state.tensors().keys() == same.tensors().keys()
    assert all(torch.equal(tensor, same.tensors()[name]) for name, tensor in state.tensors().items())
    assert state.numbers() == same.numbers() | {"step": 5}
    assert state.averages[0].updates == 5
    assert {"step", "exp_avg", "exp_avg_sq"} == set(state.optimizer.state[state.network.weight])


@pytest.mark.parametrize(("asked", "parts"), [(2, 8), (4, 4), (1, 1)])
def test_the_parts_are_those_that_memory_allowed_unless_others_are_asked_for(tmp_path, asked, parts):
    state = tiny(accumulate=2)
    state.parts = 8
    put(state, tmp_path, 1)
    state = tiny(accumulate=asked)
    checkpoints.resume(state, tmp_path)
    assert state.parts == parts


def test_nothing_to_come_back_to(tmp_path):
    assert checkpoints.resume(tiny(), tmp_path) is None


def test_every_byte_counts(tmp_path):
    """A checkpoint of which a single bit has changed, in its header or in a tensor, is known as damaged."""
    put(tiny(), tmp_path, 1)
    path = tmp_path / "checkpoints" / "00000001.safetensors"
    whole = path.read_bytes()
    assert len(whole) < 2500
    rng = random.Random(0)
    for place in range(len(whole)):
        broken = bytearray(whole)
        broken[place] ^= 1 << rng.randrange(8)
        path.write_bytes(broken)
        with pytest.raises(UserError, match="is damaged"):
            checkpoints.read(tmp_path, 1)
    path.write_bytes(whole)
    checkpoints.read(tmp_path, 1)


DAMAGES = {
    "cut in half": lambda whole: whole[: len(whole) // 2],
    "cut by a byte": lambda whole: whole[:-1],
    "longer by a byte": lambda whole: whole + b"\0",
    "empty": lambda whole: b"",
    "zeros, as after a power failure": lambda whole: bytes(len(whole)),
    "a flipped bit in the last tensor": lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]),
    "no header": lambda whole: b"\x02\0\0\0\0\0\0\0{}",
    "a header that is not ours": lambda whole: b'\x1c\0\0\0\0\0\0\0{"__metadata__":{"ddim":"5"}}',
}


@pytest.mark.parametrize("damage", [*DAMAGES, "of another step", "a folder"])
def test_the_newest_whole_one_is_found(tmp_path, damage):
    state = tiny()
    put(state, tmp_path, 4, 8)
    with torch.no_grad():
        state.network.weight.add_(1)
    put(state, tmp_path, 9)
    path = tmp_path / "checkpoints" / "00000009.safetensors"
    if damage == "a folder":
        path.unlink()
        path.mkdir()
    elif damage == "of another step":
        path.write_bytes(path.with_stem("00000008").read_bytes())
    else:
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    before = look(tmp_path)
    state = tiny(seed=1)
    assert checkpoints.resume(state, tmp_path) == state.step == 8
    assert torch.equal(state.network.weight, tiny().network.weight)
    assert look(tmp_path) == before


def test_none_is_whole(tmp_path):
    put(tiny(), tmp_path, 4, 8)
    for path in (tmp_path / "checkpoints").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"No checkpoint in .* is whole: .*00000008.*; .* --overwrite\."):
        checkpoints.resume(tiny(), tmp_path)
    assert len(look(tmp_path)) == 2


def test_one_of_another_network_is_refused(tmp_path):
    """It is no damage that an older checkpoint could repair, so those are not looked at."""
    put(tiny(outputs=3), tmp_path, 8)
    put(tiny(), tmp_path, 4)
    before = look(tmp_path)
    with pytest.raises(UserError, match=r"checkpoint of step 8 in .* is of another network or plan"):
        checkpoints.resume(tiny(), tmp_path)
    assert look(tmp_path) == before


def rewrite(path, change):
    """Change the tensors and numbers of a checkpoint, and give it the digest of what it then holds."""
    with safe_open(path, framework="pt") as file:
        numbers = json.loads(file.metadata()["ddim"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    del numbers["digest"]
    change(tensors, numbers)
    header = json.dumps({**numbers, "digest": checkpoints._digest(tensors, numbers)})
    path.write_bytes(to_bytes(tensors, metadata={"ddim": header}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"step": 9.0},
        {"average": 0.1},
        {"seconds": "1"},
        {"seconds": -1.0},
        {"accumulate": 0},
        {"parts": None},
        {"parts": True},
        {"rate": [1]},
        {"guard": 3},
        {"guard": {"running": 1.0, "lowest": 1.0}},
        {"lines": 0.5},
        {"losses": 7},
        {"losses": [1.0]},
        {"updates": "many"},
        {"scaler": None},
        *({name: ...} for name in ("average", "seconds", "guard", "scaler", "losses")),
    ],
    ids=str,
)
def test_numbers_of_a_wrong_type_are_damage_though_the_digest_fits(tmp_path, wrong):
    """Training continues from the previous checkpoint; `...` stands for a missing number."""
    put(tiny(), tmp_path, 4, 9)

    def change(tensors, numbers):
        for name, value in wrong.items():
            numbers[name] = value
            if value is ...:
                del numbers[name]

    rewrite(tmp_path / "checkpoints" / "00000009.safetensors", change)
    for raw in (True, False):
        with pytest.raises(UserError, match="is damaged"):
            checkpoints.weights(tmp_path, 9, raw)
    assert checkpoints.resume(tiny(seed=1), tmp_path) == 4


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("raw/weight", None),
        ("0.1/bias", None),
        ("exp_avg_sq/weight", None),
        ("raw/weight", torch.ones(2, 3)),
        ("0.1/weight", torch.ones(2, 2, dtype=torch.bool)),
        ("exp_avg/bias", torch.ones(2, dtype=torch.int8)),
        ("exp_avg_sq/bias", torch.ones(3)),
    ],
)
def test_tensors_that_do_not_fit_leave_the_state_as_it_was(tmp_path, name, tensor):
    put(tiny(), tmp_path, 9)

    def change(tensors, numbers):
        tensors[name] = tensor
        if tensor is None:
            del tensors[name]

    rewrite(tmp_path / "checkpoints" / "00000009.safetensors", change)
    state = tiny(seed=1)
    before, numbers = {n: t.clone() for n, t in state.tensors().items()}, state.numbers()
    with pytest.raises(UserError, match=rf"of another network or plan \({name} is .* there, and float"):
        checkpoints.resume(state, tmp_path)
    assert all(torch.equal(tensor, before[n]) for n, tensor in state.tensors().items())
    assert state.numbers() == numbers


@pytest.mark.parametrize(("before", "now"), [("adamw", "muon"), ("muon", "adamw")])
def test_a_checkpoint_of_another_optimizer_is_refused(tmp_path, before, now):
    def trained(optimizer):
        state = State(nn.Conv2d(16, 16, 1, bias=False), Plan(optimizer=optimizer))
        state.network(torch.ones(1, 16, 1, 1)).sum().backward()
        state.optimizer.step()
        return state

    put(trained(before), tmp_path, 9)
    with pytest.raises(UserError, match=r"of another network or plan \(weight has the moments of another optimizer\)"):
        checkpoints.resume(trained(now), tmp_path)


def test_weights_that_a_checkpoint_lacks_are_damage(tmp_path):
    put(tiny(), tmp_path, 9)
    rewrite(tmp_path / "checkpoints" / "00000009.safetensors", lambda tensors, numbers: numbers.update(average="0.2"))
    with pytest.raises(UserError, match=r"is damaged \(it has no weights 0\.2/"):
        checkpoints.weights(tmp_path, 9, raw=False)


def test_files_of_other_names_are_left_alone(tmp_path):
    """They are no checkpoints: they do not count among the newest, and are not removed with the old."""
    (tmp_path / "checkpoints").mkdir()
    strange = {
        "notes.safetensors",
        "70.safetensors",
        "٠٠٠٠٠٠٧٠.safetensors",
        "099999999.safetensors",
        "00000099.pt",
    }
    for name in strange:
        (tmp_path / "checkpoints" / name).write_bytes(b"mine")
    put(tiny(), tmp_path, *range(20, 30))
    assert checkpoints.steps(tmp_path) == [28, 29]
    assert checkpoints.resume(tiny(), tmp_path) == 29
    checkpoints.clear(tmp_path)
    assert set(os.listdir(tmp_path / "checkpoints")) == strange


def test_later_ones_are_removed(tmp_path):
    put(tiny(), tmp_path, 1, 2, 4)
    checkpoints.clear(tmp_path, after=2)
    assert checkpoints.steps(tmp_path) == [1, 2]


def test_old_ones_that_cannot_be_removed_do_no_harm(tmp_path):
    put(tiny(), tmp_path, 5)
    (tmp_path / "checkpoints" / "00000006.safetensors").mkdir()
    put(tiny(), tmp_path, 7, 8)
    assert checkpoints.steps(tmp_path) == [6, 7, 8]


def test_a_full_disk_leaves_the_one_before(tmp_path):
    """The system refuses to let a file grow past 100 bytes, as a full disk does. Nothing half-written stays."""
    put(tiny(), tmp_path, 1)
    before = look(tmp_path)
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        with pytest.raises(UserError, match=r"Could not write .*00000002.*; free some space"):
            put(tiny(), tmp_path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert look(tmp_path) == before
    assert checkpoints.resume(tiny(), tmp_path) == 1


def test_a_checkpoint_can_be_read_by_whoever_may_read_the_folder(tmp_path):
    mask = os.umask(0o022)
    try:
        put(tiny(), tmp_path, 1)
    finally:
        os.umask(mask)
    assert (tmp_path / "checkpoints" / "00000001.safetensors").stat().st_mode & 0o777 == 0o644


def test_what_the_disk_says_is_passed_on(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("ddim.files.os.fsync", fail)
    with pytest.raises(UserError, match="Input/output error"):
        put(tiny(), tmp_path, 1)
    assert look(tmp_path) == {}


def test_weights_of_a_step(tmp_path):
    state = tiny()
    with torch.no_grad():
        state.network.weight.add_(1)
    put(state, tmp_path, 3)
    for raw, network in ((True, state.network), (False, state.averages[0].network)):
        found = checkpoints.weights(tmp_path, 3, raw)
        assert found.keys() == network.state_dict().keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in network.state_dict().items())
    with pytest.raises(UserError, match="no checkpoint of step 2; it has 3"):
        checkpoints.weights(tmp_path, 2, raw=True)


def test_what_a_checkpoint_stores_keeps_its_names():
    """Checkpoints of ddim 0.1 are resumed: these are their names."""
    state = tiny()
    names = "step average seconds accumulate parts rate guard lines losses updates scaler"
    assert list(state.numbers()) == names.split()
    assert list(state.numbers()["guard"]) == ["running", "lowest", "seen"]
    assert {name.split("/")[0] for name in state.tensors()} == {"raw", "0.1", "exp_avg", "exp_avg_sq"}
