"""Preemption notices: one is held back while something can be saved, a second Ctrl-C is not."""

import os
import signal

import pytest

from launch.workers.notices import StopNotices
from scaling.devices.processes import Preempted


def tell(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_notice_ends_at_once_what_cannot_be_saved(number):
    with StopNotices() as notices:
        with pytest.raises(Preempted):
            tell(number)
        assert notices.heard()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_notice_waits_until_it_is_asked_for_where_something_can_be_saved(number):
    with StopNotices() as notices:
        with notices.held_back(True):
            assert not notices.heard()
            tell(number)
            assert notices.heard()
        with pytest.raises(Preempted):  # nothing can be saved any more
            tell(number)


def test_a_job_that_keeps_nothing_holds_no_notice_back():
    with StopNotices() as notices, notices.held_back(False), pytest.raises(Preempted):
        tell(signal.SIGTERM)


def test_a_second_ctrl_c_does_not_wait_for_a_checkpoint_and_a_second_notice_does():
    with StopNotices() as notices, notices.held_back(True):
        tell(signal.SIGTERM)
        tell(signal.SIGTERM)
        with pytest.raises(Preempted):
            tell(signal.SIGINT)


def test_signals_mean_afterwards_what_they_meant_before():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with StopNotices():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
