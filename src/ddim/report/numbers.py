"""Numbers as people read them."""

import math


def duration(seconds: float, suffix: str) -> tuple[str, str]:
    """A length of time as (number, unit), e.g. ("1.3", "minutes of training")."""
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"{seconds / size:.3g}", f"{unit} {suffix}"
    return f"{seconds:.3g}", f"seconds {suffix}"


def short(number: int) -> str:
    """A count in at most three digits, e.g. 385 k."""
    for size, unit in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def three(number: float) -> str:
    """A number in three digits, e.g. 4.40, or a larger one without its fraction."""
    return f"{number:,.0f}" if number >= 99.95 else f"{number:#.3g}"


def small(number: float) -> str:
    """A number in three digits, or as a power of ten where it would begin with zeros, e.g. 4.0 × 10⁻⁵."""
    return power(number) if 0 < abs(number) < 1e-3 else three(number)


def power(number: float) -> str:
    """A small number as 4.0 × 10⁻⁵."""
    if number == 0:
        return "0"
    digits, exponent = f"{number:.1e}".split("e")
    return f"{digits} × 10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def epochs(number: float) -> str:
    """A number of epochs: 12, or 0.4 where a fraction matters."""
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def percent(log: float) -> str:
    """The size of a relative change from its logarithm, e.g. "12%" for a ratio of 1.12 or of 0.88."""
    size = 100 * abs(math.expm1(log))
    return f"{size:,.0f}%" if size >= 10 else f"{size:.1f}%"
