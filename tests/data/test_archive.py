"""Archives: what is wanted comes out, whatever points outside or is broken is refused."""

import io
import tarfile

import pytest

from ddim.data.cifar import MAX_MEMBER, read_archive
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
