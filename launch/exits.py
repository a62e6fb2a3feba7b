"""What a process of this project ends with: `scaling`, its agents and workers, and what engines make of it."""

DONE = 0
WORK_FAILED = 1  # some cells failed; a fit did not converge
WRONG_CALL = 2  # nothing was begun
PREEMPTED = 75  # stopped, and saved: run me again (`EX_TEMPFAIL` of sysexits.h)

OF_AGENTS = (DONE, WORK_FAILED, PREEMPTED)  # that have done what they could; all else is a mishap
