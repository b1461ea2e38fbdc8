"""Processes of one run end together, each saying which of them is to blame."""

from __future__ import annotations

import re
import signal

import pytest

from tests.processes import ended, start_together

PROGRAM = """
import datetime, os, signal, sys, threading
import torch
from torch import distributed
from anytalker.errors import AnyTalkerError, InputError
from anytalker.training import watch
watch.BEAT, watch.SILENCE, watch.DOUBT = 0.25, 5.0, 4.0
distributed.init_process_group("gloo", timeout=datetime.timedelta(minutes=15))
rank = distributed.get_rank()
def fail():
    raise InputError("The shard clips-7.tar is damaged.")
def kill():
    os.kill(os.getpid(), signal.SIGKILL)
def collective():
    distributed.all_reduce(torch.ones(1))
def late():  # it looks for the others now and then only
    threading.Event().wait()
def stuck():  # as with a device that never answers
    threading.Event().wait()
if sys.argv[1 + rank : 2 + rank] == ["late"]:
    watch.BEAT = 1.5
try:
    watched = watch.Watch(rank, 3)
    with watched.guard():
        jobs = {"fail": fail, "kill": kill, "collective": collective, "stuck": stuck, "late": late}
        jobs["barrier"] = watched.barrier
        jobs[sys.argv[1 + rank]]()
except AnyTalkerError as error:
    print(f"Error: {error}", file=sys.stderr)
    sys.exit(2 if isinstance(error, InputError) else 1)
"""


@pytest.mark.parametrize(
    "doing", [("fail", "collective", "stuck"), ("fail", "late", "stuck"), ("barrier", "fail", "collective")], ids=str
)
def test_an_error_of_one_process_ends_all_with_its_message(doing: tuple[str, ...]) -> None:
    culprit = doing.index("fail")
    codes, errors = ended(start_together(PROGRAM, 3, *doing))
    assert codes == [2 if rank == culprit else 1 for rank in range(3)]
    for rank, error in enumerate(errors):
        of = "" if rank == culprit else rf"Process {culprit} of 3 \(.*\) failed: "
        assert re.search(rf"^Error: {of}The shard clips-7\.tar is damaged\.$", error, re.MULTILINE), error
        assert "Traceback" not in error


@pytest.mark.slow
@pytest.mark.parametrize("doing", [("kill", "barrier", "collective"), ("barrier", "kill", "stuck")], ids=str)
def test_a_killed_process_is_missed(doing: tuple[str, ...]) -> None:
    culprit = doing.index("kill")
    codes, errors = ended(start_together(PROGRAM, 3, *doing))
    assert codes == [-signal.SIGKILL if rank == culprit else 1 for rank in range(3)]
    gone = "The main process" if culprit == 0 else r"Process 1 of 3 \(.*\)"
    for error in errors[:culprit] + errors[culprit + 1 :]:
        assert re.search(rf"^Error: {gone} has ended without a message", error, re.MULTILINE), error


def test_processes_wait_for_each_other_and_share_what_the_main_one_has() -> None:
    sharing = """
watched = watch.Watch(rank, 3)
with watched.guard():
    assert watched.share({"rank": rank}) == {"rank": 0}
    watched.close()
"""
    codes, errors = ended(start_together(PROGRAM.partition("try:")[0] + sharing, 3))
    assert codes == [0, 0, 0], errors
