"""Ways to damage a file, for tests that any damage ends in a sentence: each gives the bytes that a fault leaves."""

import random
from collections.abc import Iterator

WORTH = (0, 1, 0x20, 0x30, 0x39, 0x7F, 0x80, 0xFF)  # bytes that parsers take for signs, digits, lengths and ends


def damaged(whole: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield `count` damaged versions of a file: bytes changed, cut out, put in, repeated, or the end cut off.

    Of five versions, four are damaged in their first 2,000 bytes, where the headers are.
    """
    chance = random.Random(seed)
    for _ in range(count):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 1, 1, 2, 8))):
            at = chance.randrange(min(len(data), 2000) if chance.random() < 0.8 else len(data)) if data else 0
            length = chance.choice((1, 1, 4, 8, 512))
            some = bytes(chance.choice((chance.randrange(256), chance.choice(WORTH))) for _ in range(length))
            match chance.randrange(6):
                case 0 | 1:
                    data[at : at + length] = some[: len(data) - at]
                case 2:
                    data[at : at + 1] = bytes([data[at] ^ 1 << chance.randrange(8)]) if data else b""
                case 3:
                    del data[at : at + length]
                case 4:
                    data[at:at] = chance.choice((some, data[at : at + length]))
                case 5:
                    del data[at + 1 :]
        yield bytes(data)


def each_byte(whole: bytes, positions: range) -> Iterator[tuple[int, bytes]]:
    """Yield (position, damaged version) for each position: two other digits for a digit, else one bit."""
    for at in positions:
        byte = whole[at]
        digits = [0x30 + (byte - 0x30 + step) % 10 for step in (1, 5)] if 0x30 <= byte <= 0x39 else []
        for other in digits or [byte ^ 1, byte ^ 0x80]:
            yield at, whole[:at] + bytes([other]) + whole[at + 1 :]
