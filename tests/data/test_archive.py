"""Archives: what is wanted comes out, whatever points outside or is broken is refused."""

import gzip
import io
import tarfile
import tracemalloc

import pytest

from ddim.data import cifar
from ddim.data.cifar import MAX_HEADERS, MAX_MEMBER, read_archive
from ddim.errors import UserError


def pack(path, *members):
    """A .tar.gz of members: (name, content) or a finished TarInfo."""
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_wanted_members_come_out_of_whatever_folder(tmp_path):
    path = pack(tmp_path / "a.tar.gz", special("x", tarfile.DIRTYPE), ("x/one", b"1"), ("two", b"2"), ("x/three", b"3"))
    assert read_archive(path, {"one", "two", "four"}) == {"one": b"1", "two": b"2"}


@pytest.mark.parametrize(
    "bad",
    [
        ("../evil", b"x"),
        ("x/../../evil", b"x"),
        ("/evil", b"x"),
        special("x/evil", tarfile.SYMTYPE, "one"),
        special("x/evil", tarfile.LNKTYPE, "x/one"),
        special("x/evil", tarfile.CHRTYPE),
        special("x/evil", tarfile.FIFOTYPE),
    ],
)
def test_a_member_that_has_no_place_in_a_data_set_is_named(tmp_path, bad):
    path = pack(tmp_path / "a.tar.gz", ("x/one", b"1"), bad)
    with pytest.raises(UserError, match=r"a\.tar\.gz was refused.*evil"):
        read_archive(path, {"one"})
    assert [file.name for file in tmp_path.iterdir()] == ["a.tar.gz"]


def test_an_enormous_member_is_refused_before_it_is_read(tmp_path):
    bomb = tarfile.TarInfo("one")
    bomb.size = MAX_MEMBER + 1
    with pytest.raises(UserError, match="more than any batch"):
        read_archive(pack(tmp_path / "a.tar.gz", bomb), {"one"})


def test_an_archive_cut_anywhere_is_an_error(tmp_path):
    whole = pack(tmp_path / "a.tar.gz", ("one", bytes(range(256)) * 8), ("two", b"2")).read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "cut.tar.gz").write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut\.tar\.gz"):
            read_archive(tmp_path / "cut.tar.gz", {"one"})


# Archives made by hand, as no program writes them


def header(name=b"one", size=b"0" * 11, kind=b"0"):
    """Return the 512 bytes of a header with the right checksum; `size` in octal digits, or 12 bytes in base 256."""
    fields = name.ljust(100, b"\0") + b"0000644\0" * 3 + size.ljust(12, b"\0") + b"0" * 11 + b"\0"
    rest = kind + bytes(100) + b"ustar\x0000" + bytes(247)
    total = sum(fields) + 8 * 32 + sum(rest)
    return fields + b"%06o\0 " % total + rest


def extension(kind, content, name=b"x"):
    """Return a header whose content is data on the next one: L a long name, x and g pairs of key and value."""
    return header(name, b"%011o" % len(content), kind) + content + bytes(-len(content) % 512)


def pair(key, value):
    """Return "length key=value" in a line, the length being that of the line."""
    rest = f" {key}={value}\n".encode()
    length = next(n for n in range(len(rest), len(rest) + 9) if len(str(n)) + len(rest) == n)
    return str(length).encode() + rest


ONE = header(size=b"00000000003") + b"abc".ljust(512, b"\0")
END = bytes(1024)
FORGED = {
    "a map of holes that is none": extension(b"x", pair("GNU.sparse.map", "1,x")) + ONE + END,
    "a map of holes without an end": extension(b"x", pair("GNU.sparse.major", "1") + pair("GNU.sparse.minor", "0"))
    + ONE,
    "a number of holes that is none": extension(b"x", pair("GNU.sparse.size", "x") + pair("GNU.sparse.map", "")) + ONE,
    "long names of long names": extension(b"L", b"name") * 1500 + ONE + END,
    "pairs on pairs": extension(b"x", pair("path", "name")) * 900 + ONE + END,
    "a size beyond 64 bits": header(size=b"\x80" + b"\xff" * 11) + END,
    "a size below 0": header(size=b"\xff" * 11 + b"\x00") + END,
    "a size that leads back": header(size=b"\xff" * 10 + b"\xfa\x00") + END,
    "a folder with a size below 0": header(b"f", b"\xff" * 11 + b"\x00", b"5") + END,
    "a long name beyond 64 bits": header(size=b"\x80" + b"\xff" * 11, kind=b"L") + END,
    "a long name of 8 GB": header(size=b"77777777777", kind=b"L") + END,
    "a long name below 0": header(size=b"\xff" * 12, kind=b"L") + END,
    "pairs of 8 GB": header(size=b"77777777777", kind=b"x") + END,
    "global pairs of 8 GB": header(size=b"77777777777", kind=b"g") + END,
    "a size in pairs": extension(b"x", pair("size", "1" + "0" * 30)) + ONE + END,
    "a size in pairs below 0": extension(b"x", pair("size", "-3")) + ONE + END,
    "a pair of no length": extension(b"x", b"0 a=b\n") + ONE + END,
    "a pair of 5,000 digits": extension(b"x", b"9" * 5000 + b" a=b\n") + ONE + END,
    "a name of no text": extension(b"x", pair("path", "") + b"12 path=\xff\xfe\n") + header(kind=b"2") + END,
    "an unknown kind of 8 GB": header(size=b"77777777777", kind=b"Z") + END,
    "a content cut off": header(size=b"00000010000") + b"abc",
}


def test_what_is_made_by_hand_is_otherwise_right(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(extension(b"L", b"folder/" * 20 + b"one\0") + ONE + END))
    assert read_archive(tmp_path / "a.tar.gz", {"one"}) == {"one": b"abc"}
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(extension(b"x", pair("path", "ü/one")) + ONE + END))
    assert read_archive(tmp_path / "a.tar.gz", {"one"}) == {"one": b"abc"}


@pytest.mark.parametrize("content", FORGED.values(), ids=FORGED)
def test_a_forged_archive_is_refused_in_a_sentence(tmp_path, content):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(
        UserError, match=r"a\.tar\.gz(, it is damaged \(.+\); remove it| was refused: its member .* replace it)"
    ) as told:
        read_archive(path, {"one"})
    assert len(str(told.value)) < 500 + len(str(path))


BOMBS = {  # what is unpacked is 60 MB or more
    "a long name": [header(size=b"%011o" % (60 << 20), kind=b"L"), *[bytes(1 << 20)] * 60],
    "pairs": [header(size=b"%011o" % (60 << 20), kind=b"x"), *[pair("a", "b" * 1000) * 1000] * 62],
    "many global pairs": [
        extension(b"g", b"".join(pair(f"{i}-{j}", "b" * 500) for j in range(1000))) for i in range(120)
    ],
    "many members": [header(b"%d" % i) for i in range(120_000)],
}


@pytest.mark.parametrize("pieces", BOMBS.values(), ids=BOMBS)
def test_headers_are_read_up_to_their_limit(tmp_path, pieces):
    path = tmp_path / "a.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for piece in pieces:
            file.write(piece)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"a\.tar\.gz, it is damaged \(its headers have more than 1048576 bytes"):
            read_archive(path, {"one"})
        assert tracemalloc.get_traced_memory()[1] < 12 * MAX_HEADERS
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "content", [header(size=b"%011o" % (1 << 20)) + bytes(1 << 20), b""], ids=["members", "after the end"]
)
def test_what_is_passed_over_is_limited_too(tmp_path, monkeypatch, content):
    monkeypatch.setattr(cifar, "MAX_ARCHIVE", 10 << 20)
    path = tmp_path / "a.tar.gz"
    for count, whole in ((8, True), (12, False)):
        path.write_bytes(gzip.compress(content * count + ONE + END + bytes(0 if content else count << 20)))
        if whole:
            assert read_archive(path, {"two"}) == {}
        else:
            with pytest.raises(UserError, match=r"a\.tar\.gz, it is damaged \(.*10485760"):
                read_archive(path, {"two"})


def test_an_archive_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(gzip, "open", refuse)
    with pytest.raises(
        UserError, match=r"a\.tar\.gz: Permission denied; allow reading it or choose another one"
    ) as told:
        read_archive(tmp_path / "a.tar.gz", {"one"})
    assert "download" not in str(told.value)
