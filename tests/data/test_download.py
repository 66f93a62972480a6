"""Downloads: resumed, verified, whole or absent."""

import errno
import hashlib
import io
import os
import random
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from http.client import HTTPResponse
from pathlib import Path
from typing import cast
from urllib.response import addinfourl

import pytest

from ddim.data import download
from ddim.data.download import cache_folder, fetch
from ddim.errors import Notice, UserError

CONTENT = random.Random(0).randbytes(300_000)
SIZE = len(CONTENT)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def to(tmp_path):
    return tmp_path / "cache" / "file.gz"


def part_of(to) -> Path:
    return to.with_name("file.gz.part")


def left(to) -> list[str]:
    """What lies in the cache, but for the empty file of the lock."""
    return [file.name for file in to.parent.iterdir() if file.suffix != ".lock"]


def test_a_file_is_downloaded_once(to, serve):
    server = serve(CONTENT)
    for _ in range(2):
        assert fetch([server.url()], to, SHA256, SIZE).read_bytes() == CONTENT
    assert server.asked == [None]
    assert [file.name for file in to.parent.iterdir()] == ["file.gz"]


def test_a_broken_download_goes_on_where_it_stopped(to, serve):
    server = serve(CONTENT, stop_after=100_000)
    with pytest.raises(UserError, match="broke after 100,000 of 300,000 bytes"):
        fetch([server.url()], to, SHA256, SIZE)
    assert not to.exists()
    assert part_of(to).read_bytes() == CONTENT[:100_000]
    server.stop_after = None
    assert fetch([server.url()], to, SHA256, SIZE).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-"]
    assert not part_of(to).exists()


def test_the_next_mirror_goes_on_where_the_first_broke_off(to, serve):
    first, second = serve(CONTENT, stop_after=100_000), serve(CONTENT)
    assert fetch([first.url(), second.url()], to, SHA256, SIZE).read_bytes() == CONTENT
    assert second.asked == ["bytes=100000-"]


@pytest.mark.parametrize(
    ("part", "ranges", "asked"),
    [
        (CONTENT[:1000], False, ["bytes=1000-"]),  # the server ignores the Range: all is sent again
        (CONTENT + b"more", True, [None]),  # longer than the file
        (CONTENT[::-1], True, [None]),  # as long as the file
        (CONTENT, True, []),  # complete, only the name was missing
    ],
)
def test_any_part_that_lies_there_ends_as_the_right_file(to, serve, part, ranges, asked):
    to.parent.mkdir()
    part_of(to).write_bytes(part)
    server = serve(CONTENT, ranges=ranges)
    assert fetch([server.url()], to, SHA256, SIZE).read_bytes() == CONTENT
    assert server.asked == asked


def test_a_server_that_sends_another_range_does_not_spoil_the_part(to, serve):
    to.parent.mkdir()
    part_of(to).write_bytes(CONTENT[:1000])
    with pytest.raises(UserError, match="another part of the file"):
        fetch([serve(CONTENT, shift=1).url()], to, SHA256, SIZE)
    assert part_of(to).read_bytes() == CONTENT[:1000]


def test_wrong_bytes_leave_nothing(to, serve):
    with pytest.raises(UserError, match="sha256"):
        fetch([serve(CONTENT[::-1]).url()], to, SHA256, SIZE)
    assert left(to) == []


@pytest.mark.parametrize("content", [b"<html>Please log in</html>", CONTENT + b"more", CONTENT * 3])
def test_a_file_of_another_length_is_not_even_begun(to, serve, content):
    to.parent.mkdir()
    part_of(to).write_bytes(CONTENT[:1000])
    with pytest.raises(UserError, match=f"has {len(content):,} bytes there instead of 300,000"):
        fetch([serve(content, ranges=False).url()], to, SHA256, SIZE)
    assert part_of(to).read_bytes() == CONTENT[:1000]  # another mirror may go on with it


@pytest.mark.parametrize(("content", "right"), [(CONTENT, True), (b"x" * 1000, False)])
def test_of_a_body_without_a_length_no_more_is_read_than_the_file_has(to, serve, content, right):
    """An endless body ends the test only if its reader stops."""
    server = serve(content, length=False, endless=True)
    if right:
        assert fetch([server.url()], to, SHA256, SIZE).read_bytes() == CONTENT
    else:
        with pytest.raises(UserError, match="the file has sha256"):
            fetch([server.url()], to, SHA256, SIZE)
        assert left(to) == []


def test_a_short_body_without_a_length_is_not_gone_on_with(to, serve):
    """The body may be a login page, so the next mirror starts from the first byte."""
    page, good = serve(b"<html>Please log in</html>", length=False), serve(CONTENT)
    assert fetch([page.url(), good.url()], to, SHA256, SIZE).read_bytes() == CONTENT
    assert good.asked == [None]


def test_a_server_that_is_too_slow_is_left_and_the_part_kept(to, serve, monkeypatch):
    monkeypatch.setattr(download, "PATIENCE", 0.1)
    monkeypatch.setattr(download, "SLOWEST", 1_000_000)
    slow, good = serve(CONTENT, pause=0.02), serve(CONTENT)
    with pytest.raises(UserError, match=r"the server sent only [\d,]+ bytes in 0 s.*try again later to resume"):
        fetch([slow.url()], to, SHA256, SIZE)
    arrived = part_of(to).stat().st_size
    assert 1000 <= arrived < 100_000
    assert fetch([good.url()], to, SHA256, SIZE).read_bytes() == CONTENT
    assert good.asked == [f"bytes={arrived}-"]


def test_the_slowest_server_is_left_within_the_time_that_the_slowest_speed_takes(serve, monkeypatch):
    monkeypatch.setattr(download, "PATIENCE", 1.0)
    monkeypatch.setattr(download, "SLOWEST", 10)
    clock = iter(range(1000))  # a second for each piece

    class Response:
        def read1(self, count):
            return b"x" * 5

    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    got = 0
    with pytest.raises(download._MirrorError, match="only 15 bytes in 3 s"):
        for chunk in download._chunks(cast("HTTPResponse", Response()), 1000):
            got += len(chunk)
    assert got == 15  # 5 bytes a second are half of what is asked for: after 3 s they are more than 1 s behind


def test_a_server_that_never_answers_is_left(to, serve, monkeypatch):
    monkeypatch.setattr(download, "PATIENCE", 0.1)
    silent, good = serve(pause=0.5), serve(CONTENT)
    assert fetch([silent.url(), good.url()], to, SHA256, SIZE).read_bytes() == CONTENT
    with pytest.raises(UserError, match="no answer within 0 s"):
        fetch([silent.url()], to.with_name("other"), SHA256, SIZE)


def test_a_server_may_point_to_another_that_has_the_file(to, serve):
    good = serve(CONTENT)
    assert fetch([serve(to=good.url()).url()], to, SHA256, SIZE).read_bytes() == CONTENT


def test_a_server_may_not_point_to_a_file_here_nor_in_circles(to, serve, tmp_path):
    (tmp_path / "secret").write_bytes(CONTENT)
    circle = serve()
    circle.to = circle.url()
    for server in (serve(to=(tmp_path / "secret").as_uri()), circle):
        with pytest.raises(UserError, match=r": HTTP 302 .*try again") as told:
            fetch([server.url()], to, SHA256, SIZE)
        assert "\n" not in str(told.value)
    assert left(to) == []


def test_a_server_may_not_point_to_ftp(to, monkeypatch):
    answer = addinfourl(io.BytesIO(CONTENT), Message(), "ftp://example.org/file")
    monkeypatch.setattr(download, "urlopen", lambda *_, **__: answer)
    with pytest.raises(UserError, match="points to an address without http"):
        fetch(["http://example.org/file"], to, SHA256, SIZE)


def test_of_several_at_once_one_downloads(to, serve):
    server = serve(CONTENT, pause=0.001)
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: fetch([server.url()], to, SHA256, SIZE), range(4)))
    assert [path.read_bytes() == CONTENT for path in paths] == [True] * 4
    assert server.asked == [None]
    assert left(to) == ["file.gz"]


def test_mirrors_are_tried_in_turn(to, serve):
    gone, wrong, good = serve(status=404), serve(b"wrong"), serve(CONTENT)
    assert fetch([gone.url(), wrong.url(), good.url()], to, SHA256, SIZE).read_bytes() == CONTENT
    assert (len(gone.asked), len(wrong.asked)) == (1, 1)


def test_if_all_mirrors_fail_each_is_named_with_its_reason(to, serve):
    gone, wrong = serve(status=404).url("gone"), serve(b"wrong").url("wrong")
    nobody = "http://127.0.0.1:9/nobody"
    with pytest.raises(UserError, match=r"gone: HTTP 404.*wrong: .*5 bytes there.*nobody: .*refused.*data_dir"):
        fetch([gone, wrong, nobody], to, SHA256, SIZE)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://example.org/x", "/etc/hostname"])
def test_only_http_is_downloaded_from(to, url):
    with pytest.raises(UserError, match="http://"):
        fetch([url], to, SHA256, SIZE)


def test_a_full_disk_leaves_no_file_under_the_final_name(to, serve, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="No space left on device; free some space or set DDIM_CACHE to"):
        fetch([serve(CONTENT).url()], to, SHA256, SIZE)
    assert not to.exists()


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("DDIM_CACHE", "/one")
    monkeypatch.setenv("XDG_CACHE_HOME", "/two")
    monkeypatch.setenv("HOME", "/three")
    assert cache_folder() == Path("/one")
    monkeypatch.delenv("DDIM_CACHE")
    assert cache_folder() == Path("/two/ddim")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path("/three/.cache/ddim")
    monkeypatch.setenv("DDIM_CACHE", "~/four")
    assert cache_folder() == Path("/three/four")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DDIM_CACHE", "five")  # stays where it is if the working folder changes
    assert cache_folder() == tmp_path / "five"


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    """Be a user without a home folder, as `docker run --user 12345` makes one."""
    for name in ("HOME", "DDIM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pytest.importorskip("pwd"), "getpwuid", lambda user: {}[user])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    download._cache_without_home.cache_clear()
    yield tmp_path / f"ddim-{os.geteuid()}"
    download._cache_without_home.cache_clear()


def test_without_a_home_folder_the_cache_is_a_temporary_one_of_the_user(homeless, monkeypatch):
    with pytest.warns(Notice, match=r"no home folder here.*kept in .*ddim-\d+; set DDIM_CACHE") as told:
        assert {cache_folder() for _ in range(3)} == {homeless}
    assert len(told) == 1
    assert homeless.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("DDIM_CACHE", "~/cache")
    with pytest.raises(UserError, match="no home folder"):
        cache_folder()


def test_a_temporary_cache_of_another_user_is_not_trusted(homeless, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    homeless.with_name("ddim-12345").mkdir()  # by the user of this test
    with pytest.raises(UserError, match="ddim-12345 belongs to another user; set DDIM_CACHE"):
        cache_folder()
