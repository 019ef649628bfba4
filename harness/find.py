"""Find a task's class: one of ours by name, a user's as path/to/file.py:Class or package.module:Class."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from harness.cli import OWN_FILES, InputError

BUILT_IN: dict[str, str] = json.loads((Path(__file__).parent / "tasks.json").read_text())  # name -> "module:Class"
OWN = "one of your own is path/to/file.py:Class or package.module:Class; see docs/own_task.md"


@cache
def find_task(env: str) -> type:
    """Return the class of a task; raises InputError that says what is not there, or where a syntax error is.

    An exception raised by the user's own code while it is imported passes through.
    """
    place, _, name = BUILT_IN.get(env, env).rpartition(":")
    if not place:
        raise InputError(f"--env is {env!r}; choose from {', '.join(BUILT_IN)}; {OWN}")
    module = import_file(Path(place)) if place.endswith(".py") else import_module(place, env)
    if not isinstance(getattr(module, name, None), type):
        classes = [
            n for n, value in vars(module).items() if isinstance(value, type) and value.__module__ == module.__name__
        ]
        raise InputError(
            f"--env is {env!r}, and {module.__file__} has no class {name!r}; it has {', '.join(classes) or 'none'}"
        )
    if env not in BUILT_IN:
        OWN_FILES.add(str(module.__file__))
    return getattr(module, name)


def absolute_env(env: str) -> str:
    """Return a task's name that holds in any folder: ours as it is, a user's with the path of its file."""
    if env in BUILT_IN:
        return env
    module = sys.modules[find_task(env).__module__]
    return f"{Path(str(module.__file__)).resolve()}:{env.rpartition(':')[2]}"


def import_file(path: Path) -> ModuleType:
    """Import a user's file: as a module of the package that it lies in, if there is one, else by itself."""
    path = path.resolve()
    if not path.is_file():
        raise InputError(
            f"{path} is not a file; --env takes path/to/file.py:Class, and a run's task stays where it was"
        )
    root, names = path.parent, [path.stem]
    while (root / "__init__.py").exists():
        root, names = root.parent, [root.name, *names]
    if str(root) not in sys.path:
        sys.path.append(str(root))  # at the end: a file beside the user's must not hide one of ours
    if len(names) > 1:
        return import_module(".".join(names), str(path))
    OWN_FILES.add(str(path))
    spec = importlib.util.spec_from_file_location(f"own_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise syntax_error(error) from None
    return module


def import_module(name: str, env: str) -> ModuleType:
    """Import a module by name, also from the folder where the command is given."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise InputError(f"--env is {env!r}, and there is no module {error.name!r} here; {OWN}") from None
        raise
    except SyntaxError as error:
        raise syntax_error(error) from None


def syntax_error(error: SyntaxError) -> InputError:
    """Return a syntax error as a line with file and number."""
    return InputError(f"{error.filename}, line {error.lineno}: {error.msg}: {(error.text or '').strip()}")
