"""Read a pickle without unpickling it.

A pickle is a program for a small stack machine, and `pickle.load` lets that program import and call any function.
The machine here is our own by choice: it has only the instructions that hold data. Where the program names a
function, the name goes on the stack, as text; where it calls one, the call is recorded, not made.
"""

import pickletools
from dataclasses import dataclass
from typing import Any, NamedTuple

from ddim.data.download import REMEDY
from ddim.errors import UserError
from ddim.text import one_line


class Name(NamedTuple):
    """A function or class that the file names: its module and its name, separated by a space."""

    text: str


@dataclass
class Call:
    """A call in the file, and the state that the file sets on its result."""

    function: Name
    args: tuple[object, ...]
    state: object = None


BYTES = Name("_codecs encode")  # Python 3 writes bytes for Python 2 as text, to be encoded in Latin-1
NAMES = {
    BYTES,
    Name("numpy.core.multiarray _reconstruct"),
    Name("numpy._core.multiarray _reconstruct"),  # since NumPy 2
    Name("numpy ndarray"),
    Name("numpy dtype"),
}


class _Refused(Exception):
    """The file contains something that no batch of images needs: a clause that follows its name."""


def read(data: bytes, source: str) -> object:
    """Return the content of a pickle of protocol 2, 3 or 4: plain data, with arrays as `Call`s.

    Reference: the comments in CPython's Lib/pickletools.py, which also splits the file into instructions.

    Args:
        data: the content of the file. The strings of Python 2 are read as bytes, and keys as text.
        source: the file's name, for the error message.

    Raises:
        UserError: the file is damaged, or contains more than numpy arrays and plain data.
    """
    try:
        return _run(data)
    except _Refused as reason:
        raise UserError(
            f"{source} was refused and nothing in it was run: it {reason}, which no batch of images needs; "
            "replace it by the official file."
        ) from reason
    except Exception as error:  # a damaged file may raise anything
        raise UserError(f"{source} is damaged ({one_line(error)}); {REMEDY}.") from error


def _run(data: bytes) -> object:
    stack: list[Any] = []
    marks: list[int] = []  # heights of the stack
    memo: dict[int, Any] = {}
    left = len(data)  # characters that may still be encoded
    arg: Any  # the argument of the instruction

    def pop(start: int) -> list[Any]:
        items = stack[start:]
        del stack[start:]
        return items

    for opcode, arg, _ in pickletools.genops(data):
        match opcode.name:
            case "PROTO" | "FRAME" | "STOP":
                pass

            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case "BININT" | "BININT1" | "BININT2":
                stack.append(arg)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINBYTES" | "SHORT_BINBYTES":
                stack.append(arg)
            case "BINSTRING" | "SHORT_BINSTRING":
                stack.append(arg.encode("latin-1"))

            case "MARK":
                marks.append(len(stack))
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(pop(-int(opcode.name[-1]))))
            case "TUPLE":
                stack.append(tuple(pop(marks.pop())))
            case "EMPTY_LIST":
                stack.append([])
            case "APPEND" | "APPENDS":
                items = pop(-1 if opcode.name == "APPEND" else marks.pop())
                stack[-1].extend(items)
            case "EMPTY_DICT":
                stack.append({})
            case "SETITEM" | "SETITEMS":
                items = pop(-2 if opcode.name == "SETITEM" else marks.pop())
                keys = [key if isinstance(key, str) else key.decode() for key in items[::2]]
                stack[-1].update(zip(keys, items[1::2], strict=True))

            case "BINPUT" | "LONG_BINPUT":
                memo[arg] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[arg])

            case "GLOBAL":
                stack.append(_name(arg))
            case "STACK_GLOBAL":
                stack.append(_name(" ".join(pop(-2))))
            case "REDUCE":
                made = _call(*pop(-2))
                left -= len(made) if isinstance(made, bytes) else 0
                if left < 0:  # a file of 1 MB can ask for copies of 1 TB
                    raise _Refused("makes more bytes than it holds")
                stack.append(made)
            case "BUILD":
                state = stack.pop()
                stack[-1].state = state
            case other:
                raise _Refused(f"holds the instruction {other}")
    return stack.pop()


def _name(text: str) -> Name:
    if Name(text) not in NAMES:
        raise _Refused(f"names {text.replace(' ', '.')[:100]!r}")
    return Name(text)


def _call(function: object, args: tuple[Any, ...]) -> Call | bytes:
    if not isinstance(function, Name):
        raise _Refused("calls something that has no name")
    if function == BYTES:
        text, _encoding = args
        return bytes(text.encode("latin-1"))
    return Call(function, args)
