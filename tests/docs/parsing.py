"""Whether a command that is not run would be understood: it is parsed, and stopped there."""

from __future__ import annotations

import argparse
import re
import runpy
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from unittest import mock

import typer

from anytalker.cli.app import app
from anytalker.training.config import load_config
from tests.docs.pages import ROOT


class _Parsed(Exception):
    """Raised where a script would begin to work."""


def parse(words: Sequence[str]) -> None:
    """Parse a command completely.

    Raises:
        Exception: if it would be refused: a command, an option or a value that there is not.
    """
    if words[0] == "torchrun":
        from torch.distributed.run import get_args_parser

        launched = get_args_parser().parse_args(list(words[1:]))
        assert (launched.module, launched.training_script) == (True, "anytalker")
        words = ["anytalker", *launched.training_script_args]
    if words[0] == "anytalker":
        _parse_ours(list(words[1:]))
    elif words[:2] == ("python", "-c"):
        compile(words[2], "-c", "exec")
    elif words[0] == "python":
        _parse_script(words[1:])
    else:
        assert words[0] in ("pip", "pytest"), f"nobody knows {words[0]}"


def _parse_ours(arguments: list[str]) -> None:
    root: Any = typer.main.get_command(app)
    waiting = [root]
    while waiting:
        command = waiting.pop()
        if hasattr(command, "commands"):
            waiting += command.commands.values()
        else:
            command.callback = lambda **_: None
    root.main(arguments, standalone_mode=False)
    if arguments[0] == "train" and arguments[1].startswith("configs/"):
        changes = [value for option, value in pairwise(arguments) if option == "--set"]
        load_config(ROOT / arguments[1], changes)


def _parse_script(words: Sequence[str]) -> None:
    path = ROOT / words[0]
    source = path.read_text(encoding="utf-8")
    if "argparse" not in source:
        return
    parse_args = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, *arguments: Any) -> None:
        parse_args(parser, *arguments)
        raise _Parsed

    found = False
    with (
        mock.patch.object(argparse.ArgumentParser, "parse_args", stop),
        mock.patch.object(sys, "argv", list(words)),
        mock.patch.object(sys, "path", [str(path.parent), *sys.path]),
    ):
        try:
            runpy.run_path(str(path), run_name="__main__")
        except _Parsed:
            found = True
        except SystemExit as end:
            raise ValueError(f"{' '.join(words)} is refused") from end
    assert found, f"{path} never looks at its options"


def look_up(words: Sequence[str]) -> None:
    """Look up a command of the running text, which may have NAMES in place of values and … in place of the rest.

    Raises:
        AssertionError: if there is no such command, option or file.
    """
    if words[0] in ("python", "pytest"):
        if words[0] == "pytest" or re.search("[A-Z]{2}", " ".join(words)):
            assert (ROOT / words[1]).exists(), f"there is no {words[1]}"
        else:
            parse(tuple(words))
        return
    rest = list(words[words.index("anytalker") + 1 :])
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        if command.name in ("train", "curate") and (not rest or rest[0] not in command.commands):
            command = command.commands["run"]
            break
        if not rest or rest[0] == "…":
            break
        assert rest[0] in command.commands, f"there is no {' '.join(words)}"
        command = command.commands[rest.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    unknown = [word for word in rest if word.startswith("--") and word not in known]
    assert not unknown, f"{' '.join(words)}: there is no {unknown[0]}"
