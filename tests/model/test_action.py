"""The digest that an approval is bound to: everything that decides is in it, and nothing can be confused."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from bastion.model.action import Access, Action, Resource
from tests.kit import nouns

ARGUMENTS = st.lists(st.none() | st.text() | st.binary(), max_size=3).map(tuple)
ACTIONS = st.builds(
    Action,
    protocol=st.sampled_from(["p", "q"]),
    verb=st.sampled_from(["a", "ab"]),
    text=st.text(max_size=4),
    resources=st.lists(
        st.builds(
            Resource,
            kind=st.sampled_from(["k", "kk"]),
            name=st.text(max_size=2),
            verb=st.sampled_from(["v", ""]),
            access=st.sampled_from(Access),
            facts=st.dictionaries(st.text(max_size=1), st.integers() | st.text(max_size=1) | st.booleans(), max_size=1),
        ),
        max_size=2,
    ).map(tuple),
    arguments=ARGUMENTS,
)


@given(ACTIONS, ACTIONS)
def test_only_equal_actions_share_a_digest(one: Action, other: Action) -> None:
    same = repr(one) == repr(other)
    assert (one.digest() == other.digest()) == same


@given(ARGUMENTS, ARGUMENTS)
def test_arguments_are_told_apart(one: tuple[str | bytes | None, ...], other: tuple[str | bytes | None, ...]) -> None:
    form = nouns.action()
    digests = form.called_with(one).digest(), form.called_with(other).digest()
    assert (digests[0] == digests[1]) == (one == other)


def test_an_action_that_names_nothing_is_unknown() -> None:
    assert replace(nouns.action(), resources=()).access is Access.UNKNOWN


def test_the_worst_resource_counts() -> None:
    read, write = (Resource("relation", "public.t", "v", access) for access in (Access.READ, Access.WRITE))
    assert Action("p", "v", "", (read, write, read)).access is Access.WRITE


def test_a_call_remembers_the_first_form() -> None:
    form = nouns.action()
    assert form.called_with(("1",)).called_with(("2",)).form is form


def test_a_secret_is_never_the_safe_text() -> None:
    told = replace(nouns.action("alter role a password 'x'"), secret=True, shown="alter role a password …")
    assert told.safe_text == "alter role a password …"
    assert replace(told, shown="").safe_text == ""
