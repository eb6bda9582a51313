"""Whatever a session does, its texts are read by the catalog that the target uses for them, or count as unknown.

A model of a target with a catalog of a few objects, some temporary; a reading says what the catalog was by which it was
made, and the model compares that with what it has when a statement runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from bastion.model.action import Access, Action, Resource
from bastion.protocols.contract import Side
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres.owed import Expected, Run
from bastion.protocols.postgres.questions import SeenCatalog
from bastion.protocols.postgres.sql.reading import ChangesCatalog, Reading
from tests.protocols.postgres.model_server import Failed, ModelServer
from tests.protocols.postgres.wire import (
    FLUSH,
    SYNC,
    Carrier,
    TinyAnalyst,
    bind,
    execute,
    parse,
    query,
    sight,
)

Version = tuple[frozenset[str], frozenset[str]]
"""The permanent and the temporary objects that there are."""
NOTHING: Version = (frozenset(), frozenset())
_MOVES = {"ddl", "temp", "drop", "begin", "commit", "rollback", "save", "back"}


class DatedAnalyst(TinyAnalyst):
    """Says of each reading by which catalog it was made."""

    def __init__(self, version: Version, others: list[int], *, private: bool = False) -> None:
        super().__init__()
        self.version = version
        self.private = private
        self._others = others
        self._as_of = others[0]

    @property
    def outdated(self) -> bool:  # type: ignore[override]
        return self._others[0] != self._as_of

    @property
    def count(self) -> int:  # type: ignore[override]
        return self._others[0]

    def changed(self) -> None:
        self._others[0] += 1

    def at(self, as_of: int) -> "DatedAnalyst":
        self._as_of = as_of
        return self

    def _fresh(self, text: str) -> Reading:
        reading = super()._fresh(text)
        parts = [part.split()[0] for part in text.split(";") if part.strip()]
        effects = list(reading.effects)
        effects += [ChangesCatalog(adds=True)] if "temp" in parts else []
        effects += [ChangesCatalog(own=True)] if "drop" in parts else []
        resources = [replace(r, kind="transaction") if r.verb == "save" else r for r in reading.action.resources]
        if any(part not in _MOVES for part in parts):
            resources.append(Resource("version", repr(self.version), "seen", Access.NONE))
        moved = {"ddl", "drop", *(("commit", "rollback", "back") if self.private else ())}
        if any(part in moved for part in parts[:-1]):
            resources.append(Resource("construct", "statement after a change of the catalog", "unknown"))
        action = Action("postgres", reading.action.verb, text, tuple(resources))
        return replace(reading, action=action, effects=tuple(effects))


@dataclass
class CatalogServer(ModelServer):
    """One backend with a catalog."""

    version: Version = NOTHING
    committed: Version = NOTHING
    """What there was when the open transaction, or the last one, began."""
    saved: Version | None = None
    bound: dict[str, Version] = field(default_factory=dict)
    seen: list[Version] = field(default_factory=list)
    """What the gateway was shown, each time that it asked."""
    dated: list[tuple[int, str, Version]] = field(default_factory=list)
    """For each statement that ran: the number of its message, its text, and the catalog that counts for it."""

    def sight(self) -> bytes:
        self.seen.append(self.version)
        return sight("pg_temp_1", " ".join(sorted(self.version[1])))

    def _extended(self, tag: str, body: bytes, parts: list[str]) -> bytes:
        said = super()._extended(tag, body, parts)
        if tag == "B":
            self.bound[parts[0]] = self.version
        return said

    def _run(self, text: str, ran: list[str]) -> bytes:
        verb, _, name = text.partition(" ")
        permanent, temporary = self.version
        self.dated.append((self.asked, text, self.version))
        match verb:
            case "ddl":
                self.version = (permanent ^ {name}, temporary)
            case "temp" | "strange":
                self.version = (permanent, temporary | {name})
            case "drop":
                self.version = (permanent, temporary - {name})
            case "begin" if not self.in_block:
                self.committed, self.saved = self.version, None
            case "save":
                if not self.in_block:
                    raise Failed
                self.saved = self.version
            case "back":
                if not self.in_block or self.saved is None:
                    raise Failed
                self.version = self.saved
                self.aborted = False
            case "rollback" if self.in_block:
                self.version = self.committed
            case "commit" if self.in_block and self.aborted:
                self.version = self.committed
        return super()._run(text, ran)

    def _usable(self, text: str) -> None:
        if self.aborted and text.split()[0] not in ("commit", "rollback", "back"):
            raise Failed

    def _end_of_run(self) -> bytes:
        if not self.in_block:
            if self.aborted:
                self.version = self.committed
            self.committed, self.saved = self.version, None
        return super()._end_of_run()


TEXTS = """
select 1 | delete 1 | delete 1 | ddl a | ddl b | temp x | temp y | drop x | strange z | broken | missing
begin | begin | commit | rollback | rollback | save | save | back | back | ddl a; delete 1 | back; delete 1
rollback; delete 1 | drop x; delete 1 | commit; delete 1 | save; select 1
"""
TEXT = st.sampled_from([text.strip() for line in TEXTS.strip().splitlines() for text in line.split("|")])
RUN = st.builds(
    lambda text, sync: [parse(text), bind(), execute(), *([SYNC] if sync else [])],
    TEXT,
    st.sampled_from([True] * 3 + [False]),
)
MESSAGES = st.one_of(
    st.builds(lambda text: [query(text)], TEXT),
    st.builds(lambda text: [query(text)], TEXT),
    RUN,
    st.builds(lambda text: [parse(text, "s"), SYNC], TEXT),
    st.just([bind("s", "p"), SYNC]),
    st.just([bind("s"), execute(), SYNC]),
    st.just([execute("p"), SYNC]),
    st.just([FLUSH]),
    st.just([SYNC]),
)
STEP = st.one_of(
    st.tuples(st.just("talk"), MESSAGES),
    st.tuples(st.just("talk"), MESSAGES),
    st.tuples(st.just("talk"), MESSAGES),
    st.tuples(st.just("client"), MESSAGES),
    st.tuples(st.just("target"), st.integers(1, 200)),
    st.tuples(st.just("others"), st.just(0)),
)


WITHIN = st.lists(
    st.sampled_from(["temp x", "drop x", "ddl a", "strange x", "save", "back", "delete 1", "delete 1"]), max_size=6
)
BLOCK = st.tuples(st.just(["begin"]), WITHIN, st.sampled_from([["commit"], ["rollback"], ["delete 1"]])).map(
    lambda parts: [text for part in parts for text in part]
)
SCRIPT = st.lists(st.one_of(BLOCK, WITHIN), max_size=3).map(lambda blocks: [text for block in blocks for text in block])


class Conversation:
    """A carrier and the model, with the bytes between them under the test's control."""

    def __init__(self) -> None:
        self.others = [0]
        self.server = CatalogServer()
        self.carrier = Carrier(analyst=DatedAnalyst(NOTHING, self.others))
        self.answers = b""
        self._passed = 0
        self._sent: list[int] = []
        answers = self.carrier.interceptor._answers
        expect, expect_run = answers.expect, answers.expect_run

        def kept(expected: Expected) -> None:
            if expected.kind in (m.QUERY, m.EXECUTE) and expected.refusal is None:
                self._sent.append(expected.ticket)
            expect(expected)

        def expected_run(run: Run) -> None:
            self._sent.append(run.ticket)
            expect_run(run)

        answers.expect = kept  # type: ignore[method-assign]
        answers.expect_run = expected_run  # type: ignore[method-assign]

    def client(self, messages: Sequence[bytes]) -> None:
        self.carrier.client(*messages)
        self.pump()

    def pump(self) -> None:
        """Let the server have what was sent to it, and answer what the gateway asks of itself."""
        while True:
            sent = self.carrier.sent[Side.TARGET]
            self.answers += self.server.receive(sent[self._passed :])
            self._passed = len(sent)
            self.check()
            asked = [ask for ask in self.carrier.asks if ask.name in ("catalog", "view")]
            if not asked:
                return
            question = asked[0].question
            if isinstance(question, SeenCatalog):
                analyst = DatedAnalyst(self.server.seen[-1], self.others, private=True).at(question.as_of)
            else:
                permanent = (self.server.committed if self.server.in_block else self.server.version)[0]
                analyst = DatedAnalyst((permanent, frozenset()), self.others)
            self.carrier.answer(asked[0].name, analyst)

    def check(self) -> None:
        for number, text, version in self.server.dated:
            judged = self.carrier.actions[self._sent[number - 1]]
            if text.split()[0] in _MOVES or judged.access is Access.UNKNOWN:
                continue
            told = {r.name for r in judged.resources if r.kind == "version"}
            accepted = {repr(version)}
            if text.startswith("select"):  # planned when it was bound
                accepted |= {repr(bound) for bound in self.server.bound.values()}
            assert told <= accepted, f"{text} ran by {version} where {told} was judged"
        self.server.dated.clear()

    def answer(self, size: int) -> None:
        part, self.answers = self.answers[:size], self.answers[size:]
        if part:
            self.carrier.target(part)
        self.pump()

    def rest(self) -> None:
        """Let the gateway have all answers."""
        for _ in range(800):
            if not self.answers:
                return
            self.answer(1000)
        raise AssertionError("it does not come to rest")


@settings(max_examples=400, deadline=None)
@given(st.lists(STEP, max_size=30))
def test_texts_are_read_by_the_catalog_that_they_run_by(steps: list[tuple[str, object]]) -> None:
    conversation = Conversation()
    for kind, what in steps:
        match kind, what:
            case "client", list() as messages:
                conversation.client(messages)
            case "talk", list() as messages:
                conversation.client(messages)
                conversation.rest()
            case "target", int() as size:
                conversation.answer(size)
            case _:
                conversation.others[0] += 1
    conversation.client([SYNC])
    conversation.rest()
    answers = conversation.carrier.interceptor._answers
    assert answers.outstanding == 0
    # Nothing that the gateway has asked has reached the client.
    assert b"sight" not in conversation.carrier.sent[Side.CLIENT]
    conversation.client([query("select 1")])
    conversation.rest()
    assert answers.outstanding == 0


@settings(max_examples=400, deadline=None)
@given(SCRIPT)
def test_transactions_take_back_what_they_have_changed(texts: list[str]) -> None:
    conversation = Conversation()
    for text in texts:
        conversation.client([query(text)])
        conversation.rest()
    assert len(conversation.carrier.judged) == len(texts)
    if conversation.server.aborted:
        return
    conversation.client([query("delete 1")])
    conversation.rest()
    (told,) = (r.name for r in conversation.carrier.judged[-1].resources if r.kind == "version")
    assert told == repr(conversation.server.version)
    assert conversation.carrier.judged[-1].access is Access.WRITE
