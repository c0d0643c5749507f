"""A pickle is read as data: what Python's own pickle would give, and nothing is ever run."""

from __future__ import annotations

import collections
import contextlib
import pickle
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchlink.errors import MalformedFileError
from torchlink.model.pickle_reader import Call, read_pickle

if TYPE_CHECKING:
    from pathlib import Path

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(plain, st.sampled_from([3, 4, 5]))
def test_plain_values_come_back(value: object, protocol: int) -> None:
    assert read_pickle(pickle.dumps(value, protocol)) == value


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_an_error(data: bytes) -> None:
    with contextlib.suppress(MalformedFileError):
        read_pickle(b"\x80\x02" + data)


def test_calls_are_records(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (eval, (f"open({str(tmp_path / 'sprung')!r}, 'w')",))

    found = read_pickle(pickle.dumps([Trap()], 2))
    assert isinstance(found, list)
    assert isinstance(found[0], Call)
    assert str(found[0].function) in ("builtins.eval", "__builtin__.eval")
    assert not list(tmp_path.iterdir())


def test_what_is_put_into_a_called_object_is_kept() -> None:
    found = read_pickle(pickle.dumps(collections.OrderedDict(a=1), 2))
    assert isinstance(found, Call)
    assert found.items == [("a", 1)]


def test_a_value_may_contain_itself() -> None:
    value: list[object] = []
    value.append(value)
    found = read_pickle(pickle.dumps(value, 4))
    assert isinstance(found, list)
    assert found[0] is found


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"\x80\x02", b"\x80\x02(", b"\x80\x02.", b"I1\n.", b"\x80\x02h\x00."]
)
def test_half_a_pickle_is_an_error(data: bytes) -> None:
    with pytest.raises(MalformedFileError):
        read_pickle(data)
