"""The command line: `anytalker demo`, `generate` and friends. Heavy imports wait until a command needs them."""

from anytalker.cli.app import app, main

__all__ = ["app", "main"]
