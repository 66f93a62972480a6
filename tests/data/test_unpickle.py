"""A pickle is read, never run."""

import builtins
import collections
import copyreg
import os
import pickle
import tracemalloc

import numpy as np
import pytest

from ddim.data import unpickle
from ddim.data.unpickle import Call, Name
from ddim.errors import UserError

RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"


class Asks:
    """An object whose pickle asks for a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_plain_data_comes_back(protocol):
    shared = [1, 300, 70000, -1]
    data: dict[str, object] = {
        "a": shared,
        "b": (shared, (), (1,), (1, 2, 3), (1, 2, 3, 4)),
        "c": [None, True, False, "ü", []],
    }
    data |= {"one": [7], "more": {"x": b"\xff\x00"}}
    assert unpickle.read(pickle.dumps(data, protocol), "file") == data


def test_an_array_is_only_described():
    read = unpickle.read(pickle.dumps(np.array([[1, 2]], np.uint8), 2), "file")
    match read:
        case Call(Name(), (Name("numpy ndarray"), *_), (1, (1, 2), Call(Name("numpy dtype")), False, data)):
            assert data == b"\x01\x02"
        case _:
            pytest.fail(f"read as {read}")


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_whatever_a_pickle_wants_run_is_refused_and_not_run(tmp_path, protocol):
    proof = tmp_path / "it-ran"
    attacks = [
        Asks(os.system, f"touch {proof}"),
        Asks(builtins.eval, f"open({str(proof)!r}, 'w')"),
        Asks(builtins.open, str(proof), "w"),
        Asks(np.save, str(proof), 1),
        [{"data": Asks(getattr, Asks(__import__, "os"), "mkdir")}],
        collections.OrderedDict(),
    ]
    for attack in attacks:
        with pytest.raises(UserError, match=r"^bad-file was refused and nothing in it was run: it names '"):
            unpickle.read(pickle.dumps(attack, protocol), "bad-file")
    assert list(tmp_path.iterdir()) == []


def test_an_extension_code_is_refused_even_if_another_unpickler_has_cached_it(tmp_path):
    """The codes of `copyreg` name functions without naming them; pickle's cache of them skips find_class."""
    copyreg.add_extension("os", "mkdir", 200)
    try:
        assert pickle.loads(b"\x82\xc8.") is os.mkdir
        target = str(tmp_path / "made").encode()
        with pytest.raises(UserError, match="instruction EXT1"):
            unpickle.read(b"\x80\x02\x82\xc8U" + bytes([len(target)]) + target + b"\x85R.", "file")
    finally:
        copyreg.remove_extension("os", "mkdir", 200)
        copyreg.clear_extension_cache()
    assert list(tmp_path.iterdir()) == []


REFUSED = {
    "a call of a call": RECONSTRUCT + b")R)R.",
    "a call of text": b"U\x06system)R.",
    "a persistent id": b"Px\n.",
    "a binary persistent id": b"K\x01Q.",
    "an instance": b"(ios\nsystem\n.",
    "an object": b"(" + RECONSTRUCT + b"o.",
    "a new object": RECONSTRUCT + b")\x81.",
    "a dotted name": b"cnumpy\nndarray.tofile\n.",
}
ENCODE = b"c_codecs\nencode\nq\x00X" + (1 << 20).to_bytes(4, "little") + b"x" * (1 << 20) + b"U\x06latin1\x86q\x01R"
DAMAGED = {
    "nothing": b"",
    "no end": b"K\x01",
    "no instruction": b"\xff.",
    "a text longer than the file": b"T\xff\xff\xff\x7fabc.",
    "a text of negative length": b"T\xff\xff\xff\xffabc.",
    "an empty stack": b".",
    "an empty memo": b"h\x05.",
    "no mark": b"K\x01t.",
    "a key without a value": b"}(U\x01au.",
    "a key that is no text": b"}K\x01K\x02s.",
    "items for a number": b"K\x01(K\x02e.",
    "state for a name": RECONSTRUCT + b"}b.",
    "a name made of numbers": b"K\x01K\x02\x93.",
    "bytes out of no text": b"c_codecs\nencode\nK\x01K\x02\x86R.",
    "a key nested deeper than the C stack": b"})" + b"\x85" * 500_000 + b"K\x01s.",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_other_instructions_are_refused(data):
    with pytest.raises(UserError, match="bad-file was refused and nothing in it was run"):
        unpickle.read(b"\x80\x02" + data, "bad-file")


def test_a_small_file_cannot_ask_for_many_copies_of_its_text():
    """One copy is what Python 3 writes for bytes in protocol 2; 100 of 1 MB here would be 100 MB."""
    assert unpickle.read(b"\x80\x02" + ENCODE + b".", "file") == b"x" * (1 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"bad-file was refused .* makes more bytes than it holds"):
            unpickle.read(b"\x80\x02" + ENCODE + b"h\x00h\x01R" * 100 + b".", "bad-file")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_long_text_in_a_bad_file_is_not_repeated_in_the_error():
    for data in (b"c" + b"x" * 100_000 + b"\ny\n.", b"I" + b"9" * 100_000 + b"\n.", b"V\\u" + b"z" * 100_000 + b"\n."):
        with pytest.raises(UserError) as told:
            unpickle.read(b"\x80\x02" + data, "bad-file")
        assert len(str(told.value)) < 400


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_damage_is_an_error_that_names_the_file(data):
    with pytest.raises(UserError, match="bad-file is damaged"):
        unpickle.read(data, "bad-file")
