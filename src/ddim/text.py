"""Numbers, sizes, lengths of time and names as they stand in a message."""

from collections.abc import Iterable, Sequence


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the other one of `names` that is spelled most like `name`; "" if none is."""
    from difflib import get_close_matches  # here, because only an error needs it

    closest = get_close_matches(name.lower(), [other for other in names if other != name], n=1)
    return f" (did you mean {closest[0]!r}?)" if closest else ""


def plural(number: str, noun: str, many: str | None = None) -> str:
    """Return the noun that follows a number in text: "image" after "1", else "images", or `many`."""
    return noun if number == "1" else many or f"{noun}s"


def counted(number: float, noun: str, many: str | None = None) -> str:
    """Return a number of things: "1 image", "1,500 images"; four digits of a fraction. See `plural`."""
    text = f"{number:,.0f}" if float(number).is_integer() else f"{number:,.4g}"
    return f"{text} {plural(text, noun, many)}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return the first `most` names with commas between them, and the number of the others: "a, b and 3 more"."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def dimensions(shape: Iterable[int]) -> str:
    """Return a shape as text: "3 × 32 × 32"."""
    return " × ".join(map(str, shape))


def duration(seconds: float) -> str:
    """Return a length of time in its two largest units: "2 days 3 hours", "4 hours 10 minutes", "50 seconds"."""
    parts: list[str] = []
    rest = round(seconds)
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        number, rest = divmod(rest, length)
        if number or (unit == "second" and not parts):
            parts.append(counted(number, unit))
    return " ".join(parts[:2])


def data_size(number: float) -> str:
    """Return a number of bytes as text: "16.4 kB", "1.2 GB"."""
    unit, size = next(pair for pair in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if number >= pair[1] or pair[1] == 1e3)
    return f"{number / size:,.1f} {unit}"


def printable(text: str) -> str:
    """Return a line for a terminal: control characters and broken bytes, as names of files may hold, are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(error: object, most: int = 200) -> str:
    """Return the message of an error on one line of at most `most` characters."""
    return " ".join(str(error).split())[:most]


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, without its full stop; the error's name if it has no message."""
    return (str(error).strip() or repr(error)).splitlines()[0].rstrip(".")
