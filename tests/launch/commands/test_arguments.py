"""Arguments that several commands take: what several processes know of each other, as they were told it."""

import argparse

from launch.commands.arguments import add_processes, read_processes


def read(*words: str):
    parser = argparse.ArgumentParser()
    add_processes(parser, "work together")
    return read_processes(parser.parse_args(words))


def test_a_process_that_is_told_nothing_is_alone():
    assert read() == (None, None, None, False)


def test_what_a_process_is_told_of_the_others_is_known():
    assert read("--coordinator=host:1", "--num-processes=4", "--process-id=0") == ("host:1", 4, 0, False)
    assert read("--distributed") == (None, None, None, True)
