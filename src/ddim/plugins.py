"""Plugins: the user's own Python files and modules, imported so that what they register can be named.

Only what the user names (on the command line, or in the environment variable DDIM_PLUGINS) or has installed (an
entry point of the group "ddim.plugins") is imported. A run folder or a model file never causes an import; of a module
that the user names, it may name a network, e.g. "mine:MyNet".
"""

import os
import sys
import traceback
import zlib
from collections.abc import Iterable, Sequence
from importlib import import_module, util
from pathlib import Path
from types import ModuleType

from ddim.errors import UserError

FLAG, VARIABLE, GROUP = "--plugin", "DDIM_PLUGINS", "ddim.plugins"
NETWORK = "--network"  # a class, MODULE:CLASS, names its module as --plugin does

modules: dict[str, ModuleType] = {}
"""The plugins that the user has named: a module by its name, "package.module", and a file mine.py as "mine"."""


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the arguments without their `--plugin` flags, and the values of these flags.

    The flag may stand anywhere, as `--plugin X` or `--plugin=X`. `--network MODULE:CLASS` and `--network FILE:CLASS`
    name a plugin, too; FILE becomes the name of its module. Raises `UserError` if the value of --plugin is missing.
    """
    others, plugins = [], []
    rest = iter(arguments)
    for argument in rest:
        flag, equals, value = argument.partition("=")
        if flag == NETWORK and ":" in (value := value if equals else next(rest, "")):
            plugin, _, name = value.rpartition(":")
            plugins.append(plugin)
            others += [NETWORK, f"{module_name(plugin)}:{name}"]
            continue
        if flag == NETWORK and not equals:
            others += [argument, value] if value else [argument]
            continue
        if flag != FLAG:
            others.append(argument)
            continue
        value = value if equals else next(rest, "")
        if not value or value.startswith("-"):
            raise UserError(f"{FLAG} needs the path of a Python file or the name of a module; got {value!r}.")
        plugins.append(value)
    return others, plugins


def load(named: Iterable[str] = ()) -> None:
    """Import all plugins: installed ones first, then those of DDIM_PLUGINS, then `named`. Each is imported once.

    `named` are paths of Python files or names of modules. Raises `UserError` if one does not exist or fails.
    """
    from importlib.metadata import entry_points  # here, because it takes 30 ms

    for entry in entry_points(group=GROUP):
        try:
            entry.load()
        except (Exception, SystemExit) as error:
            package = entry.dist.name if entry.dist else entry.value
            raise _failure(f"{entry.name!r} of the installed package {package!r}", error) from error
    environment = (name.strip() for name in os.environ.get(VARIABLE, "").split(","))
    for name in [*filter(None, environment), *named]:
        if _is_file(name):
            modules[module_name(name)] = _load_file(Path(name).expanduser().resolve())
        else:
            modules[name] = _load_module(name)


def module_name(plugin: str) -> str:
    """Return the name of a plugin in `modules`: "mine" for the file "my/mine.py", and a module's own name."""
    return Path(plugin).stem if _is_file(plugin) else plugin


def _is_file(name: str) -> bool:
    return name.endswith(".py") or "/" in name or os.sep in name


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"There is no plugin file {path}; check the path.")
    name = f"ddim_plugin_{path.stem}_{zlib.crc32(os.fsencode(path)):08x}"  # no other module has this name
    if name in sys.modules:
        return sys.modules[name]
    spec = util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"The plugin file {path} is not Python code; give a file whose name ends in .py.")
    module = sys.modules[name] = util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        raise _failure(f"{path}, line {lines[-1]}" if lines else str(path), error) from error
    return module


def _load_module(name: str) -> ModuleType:
    try:
        return import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise UserError(
                f"There is no plugin module {name!r}; install it, or give the path of a Python file, e.g. mine.py."
            ) from error
        raise _failure(repr(name), error) from error


def _failure(plugin: str, error: BaseException) -> UserError:
    reason = f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"
    return UserError(f"The plugin {plugin} could not be imported: {reason}")
