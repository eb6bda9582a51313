"""The usual shapes of what a client sends at once, read as a whole: a Query, or Bind, Execute and Sync.

A shape is taken so only where nothing is owed or waits, where its text is known, and where all it does is to run. All
else goes the way on which each message is taken by itself. What is judged, recorded and sent is the same on both ways.
"""

from typing import Final

from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres.answers import Answers
from bastion.protocols.postgres.binding import Portal, arguments_of
from bastion.protocols.postgres.messages import Frames
from bastion.protocols.postgres.names import key
from bastion.protocols.postgres.owed import Run
from bastion.protocols.postgres.understanding import Understanding

_QUERY: Final = b"Q"
_EXECUTE: Final = b"BES"
_DESCRIBE_EXECUTE: Final = b"BDES"
_PORTAL: Final = ord("P")


def usual(message: Frames, number: int, answers: Answers, understanding: Understanding) -> Run | None:
    """Return what a client's messages run, if they are of a usual shape; `number` is that of the run up to a Sync.

    Raises `ProtocolError` where the other way would.
    """
    marks = message.marks
    if len(marks) > len(_DESCRIBE_EXECUTE) or not answers.settled:
        return None
    tags = bytes([mark[0] for mark in marks])
    if tags == _QUERY:
        return _queried(message, number, understanding)
    if tags in (_EXECUTE, _DESCRIBE_EXECUTE):
        return _executed(message, number, answers, understanding)
    return None


def _queried(message: Frames, number: int, understanding: Understanding) -> Run | None:
    _, start, end = message.marks[0]
    reading = understanding.known(m.read_query(message.data, start, end))
    if reading is None or not understanding.only_runs(reading):
        return None
    return Run(number, reading.action, None, b"", described=False)


def _executed(message: Frames, number: int, answers: Answers, understanding: Understanding) -> Run | None:
    data, marks = message.data, message.marks
    bound = m.read_bind(data, marks[0][1], marks[0][2])
    portal_name = bound.portal
    _, start, end = marks[-2]
    if m.read_execute(data, start, end) != portal_name:
        return None
    described = len(marks) == len(_DESCRIBE_EXECUTE)
    if described and m.read_named(data, marks[1][1], marks[1][2]) != (_PORTAL, portal_name):
        return None
    statement = answers.statements.known(key(bound.statement))
    if statement is None or not understanding.is_current(statement):
        return None
    reading = statement.reading
    arguments = arguments_of(bound)
    if arguments is None or not understanding.only_runs(reading):
        return None
    portal = Portal(reading, arguments, statement.facts(bound.formats))
    portal.statement, portal.result_formats, portal.described = statement, bound.result_formats, described
    portal.epoch = understanding.epoch
    return Run(number, portal.called(reading), portal, key(portal_name), described=described)
