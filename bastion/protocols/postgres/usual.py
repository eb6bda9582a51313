"""The usual shapes of what a client sends at once, read as a whole: a Query, or Bind, Execute and Sync.

A shape is taken so only where nothing is owed or waits, where its text is known, and where all it does is to run. All
else goes the way on which each message is taken by itself. What is judged, recorded and sent is the same on both ways.
"""

from typing import Final

from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres.answers import Answers
from bastion.protocols.postgres.binding import Portal, arguments_of
from bastion.protocols.postgres.messages import Bound, Frames
from bastion.protocols.postgres.names import key
from bastion.protocols.postgres.owed import Run
from bastion.protocols.postgres.understanding import Understanding

_BEHIND_BIND: Final = {
    m.frame(m.EXECUTE, b"\0\0\0\0\0") + m.frame(m.SYNC): False,
    m.frame(m.DESCRIBE, b"P\0") + m.frame(m.EXECUTE, b"\0\0\0\0\0") + m.frame(m.SYNC): True,
}
"""What drivers send behind a Bind of the unnamed portal, to the byte; and whether that asks for a description."""


def usual(message: Frames, number: int, answers: Answers, understanding: Understanding) -> Run | None:
    """Return what a client's messages run, if they are of a usual shape; `number` is that of the run up to a Sync.

    Raises `ProtocolError` where the other way would.
    """
    marks = message.marks
    tag, start, end = marks[0]
    if tag == m.BIND:
        described = _BEHIND_BIND.get(message.data[end:]) if len(marks) <= 4 else None
        if described is None or not answers.settled:
            return None
        bound = m.read_bind(message.data, start, end)
        return None if bound.portal else _executed(bound, number, answers, understanding, described=described)
    if tag != m.QUERY or len(marks) > 1 or not answers.settled:
        return None
    reading = understanding.known(m.read_query(message.data, start, end))
    if reading is None or not understanding.only_runs(reading):
        return None
    return Run(number, reading.action, None, described=False)


def _executed(
    bound: Bound, number: int, answers: Answers, understanding: Understanding, *, described: bool
) -> Run | None:
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
    return Run(number, portal.called(reading), portal, described=described)
