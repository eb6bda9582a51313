"""What every protocol owes the gateway, whichever it is."""

import contextlib
import importlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.errors import LimitExceeded, ProtocolError
from bastion.model.action import Action
from bastion.protocols.contract import Interceptor, ProtocolSpec, Send, Side, installed, load
from tests.kit.conformance import ALLOW, DENY, Sample, Tape

SPECS = installed()


@pytest.fixture(params=sorted(SPECS))
def spec(request: pytest.FixtureRequest) -> ProtocolSpec:
    return SPECS[request.param]


def sample_of(name: str) -> Sample:
    sample: Sample = importlib.import_module(f"tests.protocols.{name}.sample").SAMPLE
    return sample


SAMPLES = st.sampled_from(sorted(SPECS)).map(sample_of)
SIDES = st.sampled_from(list(Side))


def test_everything_a_spec_names_exists(spec: ProtocolSpec) -> None:
    for reference in (
        spec.endpoint, spec.transcript, spec.client.connect, spec.client.hints, spec.client.loopback
    ):  # fmt: skip
        assert callable(load(reference))
    assert issubclass(spec.interceptor, Interceptor)  # type: ignore[arg-type]


@given(SAMPLES, SIDES, st.lists(st.integers(0, 2000), max_size=12))
def test_any_pieces_give_the_same_bytes(sample: Sample, side: Side, points: list[int]) -> None:
    wire = sample.wires[side]
    codec = sample.codec(side, 1 << 20)
    at = sorted({p % (len(wire) + 1) for p in points} | {0, len(wire)})
    seen = b""
    for start, end in itertools.pairwise(at):
        for message in codec.decode(wire[start:end]):
            seen += codec.encode(message)
    assert seen == wire


@given(SAMPLES, SIDES, st.binary(max_size=300))
def test_any_bytes_raise_only_protocol_errors(sample: Sample, side: Side, data: bytes) -> None:
    tape = Tape(sample, ALLOW)
    with contextlib.suppress(ProtocolError):
        tape.say(side, data)


@given(SAMPLES, SIDES, st.integers(0, 400), st.binary(min_size=1, max_size=4))
def test_any_flaw_in_good_messages_raises_only_protocol_errors(
    sample: Sample, side: Side, at: int, flaw: bytes
) -> None:
    wire = sample.wires[side]
    place = at % len(wire)
    tape = Tape(sample, ALLOW)
    with contextlib.suppress(ProtocolError):
        tape.say(side, wire[:place] + flaw + wire[place + len(flaw) :])


def test_absurd_length_is_an_error_at_once(spec: ProtocolSpec) -> None:
    sample = sample_of(spec.name)
    with pytest.raises(ProtocolError):
        list(sample.codec(Side.CLIENT, 1 << 20).decode(sample.announced))


def test_nothing_reaches_the_target_before_its_ruling(spec: ProtocolSpec) -> None:
    sample = sample_of(spec.name)
    tape = Tape(sample, None)
    tape.say(Side.CLIENT, sample.ask)
    assert tape.sent[Side.TARGET] == b""
    (judge,) = tape.judged
    assert isinstance(judge.action, Action)
    assert judge.action.protocol == spec.name


def test_allowed_message_arrives_unchanged_and_so_does_its_answer(spec: ProtocolSpec) -> None:
    sample = sample_of(spec.name)
    tape = Tape(sample, ALLOW)
    tape.say(Side.CLIENT, sample.ask)
    assert tape.sent[Side.TARGET] == sample.ask
    tape.say(Side.TARGET, sample.answer)
    assert tape.sent[Side.CLIENT] == sample.answer


def test_refused_message_never_reaches_the_target(spec: ProtocolSpec) -> None:
    sample = sample_of(spec.name)
    tape = Tape(sample, DENY)
    tape.say(Side.CLIENT, sample.ask)
    tape.say(Side.TARGET, sample.refused)
    assert sample.marker not in tape.sent[Side.TARGET]
    assert DENY.rule.encode() in tape.sent[Side.CLIENT]
    assert not tape.hung_up


def test_session_goes_on_after_a_refusal(spec: ProtocolSpec) -> None:
    sample = sample_of(spec.name)
    tape = Tape(sample, DENY)
    tape.say(Side.CLIENT, sample.ask)
    tape.say(Side.TARGET, sample.refused)
    tape.ruling = ALLOW
    before = len(tape.sent[Side.TARGET])
    tape.say(Side.CLIENT, sample.ask)
    assert tape.sent[Side.TARGET][before:] == sample.ask


def test_refusal_does_not_overtake_an_answer_that_is_owed(spec: ProtocolSpec) -> None:
    sample = sample_of(spec.name)
    tape = Tape(sample, ALLOW)
    tape.say(Side.CLIENT, sample.ask)
    tape.ruling = DENY
    tape.say(Side.CLIENT, sample.ask)
    assert tape.sent[Side.CLIENT] == b""
    tape.say(Side.TARGET, sample.answer)
    assert tape.sent[Side.CLIENT] == sample.answer
    tape.say(Side.TARGET, sample.refused)
    assert DENY.rule.encode() in tape.sent[Side.CLIENT][len(sample.answer) :]


def test_what_comes_behind_a_held_message_waits_and_keeps_its_order(spec: ProtocolSpec) -> None:
    sample = sample_of(spec.name)
    tape = Tape(sample, None)
    tape.say(Side.CLIENT, sample.ask)
    tape.say(Side.CLIENT, sample.harmless)
    assert tape.sent[Side.TARGET] == b""
    tape.rule(ALLOW)
    assert tape.sent[Side.TARGET] == sample.ask + sample.harmless


def test_what_waits_is_bounded(spec: ProtocolSpec) -> None:
    sample = sample_of(spec.name)
    tape = Tape(sample, None)
    tape.say(Side.CLIENT, sample.ask)
    with pytest.raises(LimitExceeded):
        _repeat(tape, sample.harmless)


def _repeat(tape: Tape, data: bytes) -> None:
    for _ in range(100_000):
        tape.say(Side.CLIENT, data)


def test_output_is_noted_before_it_is_sent(spec: ProtocolSpec) -> None:
    sample = sample_of(spec.name)
    tape = Tape(sample, ALLOW)
    tape.say(Side.CLIENT, sample.ask)
    tape.say(Side.TARGET, sample.answer)
    noted, sent = b"", b""
    for kind, data in tape.log:
        if kind == "note output":
            assert isinstance(data, bytes)
            noted += data
        elif kind == "send client":
            assert isinstance(data, bytes)
            sent += data
            assert noted.startswith(sent)
    assert sent == sample.answer


def test_ruling_that_nobody_asked_for_is_a_bug(spec: ProtocolSpec) -> None:
    sample = sample_of(spec.name)
    tape = Tape(sample, None)
    tape.say(Side.CLIENT, sample.ask)
    with pytest.raises(AssertionError):
        tape.interceptor.ruled(type(tape.judged[0].ticket)(999), ALLOW)


def test_each_end_is_followed_by_the_other(spec: ProtocolSpec) -> None:
    for side in Side:
        tape = Tape(sample_of(spec.name), ALLOW)
        tape.carry(tape.interceptor.closed(side))
        assert tape.hung_up


def test_failure_is_told_to_the_client_alone(spec: ProtocolSpec) -> None:
    effects = list(Tape(sample_of(spec.name), ALLOW).interceptor.failed("the recording broke", "", "recording"))
    assert effects
    assert all(isinstance(e, Send) and e.to is Side.CLIENT for e in effects)
