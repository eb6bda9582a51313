"""No interleaving of messages and answers makes the target run what was not judged."""

from hypothesis import given, settings
from hypothesis import strategies as st

from bastion.model.action import Access, Action
from bastion.model.verdict import Ruling
from bastion.protocols.contract import Side
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres.owed import Expected, Run
from tests.protocols.postgres.model_server import ModelServer
from tests.protocols.postgres.wire import (
    ALLOW,
    DENY,
    FLUSH,
    SYNC,
    Carrier,
    TinyAnalyst,
    bind,
    close,
    describe,
    execute,
    meaning,
    parse,
    query,
)

NAMES = st.sampled_from(["", "a", "b"])
NAMED = st.sampled_from(["a", "b"])
PLAIN = st.sampled_from(["select 1", "select 2", "delete 1", "delete 2", "select missing", "broken"])
STATEMENT = st.one_of(
    PLAIN,
    st.sampled_from(["begin", "commit", "deallocate all", "close all"]),
    st.builds("prepare {} {}".format, NAMED, st.sampled_from(["select 3", "delete 3"])),
    st.builds("declare {} {}".format, NAMED, st.sampled_from(["select 4", "delete 4"])),
    st.builds("{} {}".format, st.sampled_from(["execute", "deallocate", "fetch", "close"]), NAMED),
)
TEXT = st.one_of(STATEMENT, st.just("garbage"))
MESSAGE = st.one_of(
    st.builds(query, st.lists(TEXT, min_size=1, max_size=3).map("; ".join)),
    st.builds(parse, TEXT, NAMES),
    st.builds(bind, NAMES, NAMES),
    st.builds(execute, NAMES),
    st.builds(execute, NAMES),
    st.builds(close, st.sampled_from("SP"), NAMES),
    st.builds(describe, st.sampled_from("SP"), NAMES),
    st.just(SYNC),
    st.just(FLUSH),
)
STEP = st.one_of(
    st.tuples(st.just("client"), st.lists(MESSAGE, min_size=1, max_size=6)),
    st.tuples(st.just("target"), st.integers(1, 60)),
    st.tuples(st.just("settle"), st.booleans()),
)


class Conversation:
    """A carrier and a model server, with the bytes between them under the test's control."""

    def __init__(self, rule: "dict[str, Ruling | None]") -> None:
        self.rules = rule
        self.carrier = Carrier(self._rule)
        self.server = ModelServer()
        self.answers = b""
        self._passed = 0
        self._sent: list[int] = []
        answers = self.carrier.interceptor._answers
        expect = answers.expect

        def expected(message: Expected) -> None:
            """Keep the ticket of each Query and Execute that goes to the server as it came, in order."""
            if message.kind in (m.QUERY, m.EXECUTE) and message.refusal is None:
                self._sent.append(message.ticket)
            expect(message)

        expect_run = answers.expect_run

        def expected_run(run: Run) -> None:
            self._sent.append(run.ticket)
            expect_run(run)

        answers.expect = expected  # type: ignore[method-assign]
        answers.expect_run = expected_run  # type: ignore[method-assign]

    def _rule(self, action: Action) -> Ruling | None:
        words = " ".join(meaning(action))
        return next((ruling for word, ruling in self.rules.items() if word in words), ALLOW)

    def pump(self) -> None:
        """Let the server have what was sent to it."""
        sent = self.carrier.sent[Side.TARGET]
        self.answers += self.server.receive(sent[self._passed :])
        self._passed = len(sent)
        for number, ran in self.server.ran:
            judged = self.carrier.actions[self._sent[number - 1]]
            told = meaning(judged)
            if judged.access is Access.UNKNOWN:
                continue
            assert all(text in told for text in ran), f"{ran} ran where {told} was judged"
        self.server.ran.clear()
        if any(ask.name == "catalog" for ask in self.carrier.asks):
            self.carrier.answer("catalog", TinyAnalyst())
            self.pump()

    def answer(self, size: int) -> None:
        """Let the gateway have some of the server's answers."""
        part, self.answers = self.answers[:size], self.answers[size:]
        if part:
            self.carrier.target(part)
        self.pump()

    def settle(self, allow: bool) -> None:
        """Rule on what is held, if anything is."""
        if self.carrier.held:
            self.carrier.settle(ALLOW if allow else DENY)
            self.pump()

    def finish(self) -> None:
        """Let everything come to rest."""
        self.carrier.client(SYNC)
        self.pump()
        for _ in range(500):
            if not (self.answers or self.carrier.held):
                return
            self.answer(1000)
            self.settle(True)
        raise AssertionError("it does not come to rest")


RULES = st.dictionaries(
    st.sampled_from(["delete 1", "delete 2", "delete 3", "select 2"]), st.sampled_from([DENY, None])
)


@settings(max_examples=400, deadline=None)
@given(RULES, st.lists(STEP, max_size=30))
def test_what_runs_is_what_was_judged(rules: "dict[str, Ruling | None]", steps: list[tuple[str, object]]) -> None:
    conversation = Conversation(rules)
    for kind, what in steps:
        match kind, what:
            case "client", list() as messages:
                conversation.carrier.client(*messages)
                conversation.pump()
            case "target", int() as size:
                conversation.answer(size)
            case "settle", bool() as allow:
                conversation.settle(allow)
    conversation.finish()
    answers = conversation.carrier.interceptor._answers
    assert answers.outstanding == 0
    # A name may be known here and gone there; never the reverse, and never with another meaning.
    for names, kept in (
        (answers.statements, conversation.server.statements),
        (answers.portals, conversation.server.portals),
    ):
        known = {name.decode(): value for name, value in names.settled()}
        for name, text in kept.items():
            assert name in known
            action = known[name].reading.action
            assert action.access is Access.UNKNOWN or action.text in (text, "")
