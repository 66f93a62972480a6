"""Numbers, sizes, lengths of time and names as they stand in a message."""

from ddim.text import counted, data_size, dimensions, duration, listed, one_line, printable


def test_one_thing_is_singular():
    assert counted(1, "image") == "1 image"
    assert counted(1500, "image") == "1,500 images"
    assert counted(0, "image") == "0 images"
    assert counted(1, "class", "classes") == "1 class"
    assert counted(2, "class", "classes") == "2 classes"
    assert counted(58.973, "epoch") == "58.97 epochs"
    assert counted(1.0, "epoch") == "1 epoch"


def test_a_list_ends_with_the_number_of_the_others():
    assert listed(["a", "b"], 2) == "a, b"
    assert listed(["a", "b", "c", "d"], 2) == "a, b and 2 more"
    assert dimensions((3, 32, 16)) == "3 × 32 × 16"


def test_times_as_people_say_them():
    said = {0.4: "0 seconds", 1: "1 second", 59.6: "1 minute", 3600 * 4 + 610: "4 hours 10 minutes"}
    said[2 * 86400 + 3 * 3600 + 59] = "2 days 3 hours"
    assert {seconds: duration(seconds) for seconds in said} == said


def test_bytes_come_in_the_unit_that_suits_them():
    sizes = {9: "0.0 kB", 16_384: "16.4 kB", 2_500_000: "2.5 MB", 1_234_000_000_000: "1,234.0 GB"}
    assert {size: data_size(size) for size in sizes} == sizes


def test_what_a_terminal_would_obey_is_escaped():
    assert printable("a\x1b[2J\udcff é") == "a\\x1b[2J\\udcff é"
    assert one_line(ValueError("two\n  lines of text"), 13) == "two lines of "
