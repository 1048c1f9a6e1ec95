"""What is said on the control socket, and what is not understood."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overcommit.errors import HostError, OvercommitError, Refused, Unsupported, UsageError
from overcommit.units import GIB
from overcommit.wire.protocol import (
    MOST_REQUEST_BYTES,
    Reply,
    ReplyKind,
    Request,
    Verb,
    document_line,
    failure,
)

RESERVE = {"size_bytes": GIB, "purpose": "web", "timeout_seconds": 600.0, "hold_seconds": 60}


def line(**said: Any) -> bytes:
    return json.dumps({"version": 1, **said}).encode()


@pytest.mark.parametrize("verb", Verb)
def test_a_request_comes_back(verb: Verb) -> None:
    said: dict[Verb, dict[str, Any]] = {
        Verb.PAUSE: {"seconds": 1.5},
        Verb.RESERVE: RESERVE,
        Verb.CANCEL: {"id": 3},
        Verb.RELEASE: {"domain": "web"},
    }
    arguments = said.get(verb, {})
    request = Request(verb=verb, arguments=arguments)
    sent = request.encode()
    assert sent.count(b"\n") == 1
    assert Request.parse(sent.rstrip()) == request


def test_arguments_that_may_be_left_out() -> None:
    assert Request.parse(line(verb="pause")) == Request(verb=Verb.PAUSE, arguments={})
    without = {name: value for name, value in RESERVE.items() if name != "purpose"}
    assert Request.parse(line(verb="reserve", arguments=without)).arguments == without


@pytest.mark.parametrize(
    ("sent", "complaint"),
    [
        (b"", "not a line of JSON"),
        (b"status", "not a line of JSON"),
        (b"\xff\xfe\x00", "not a line of JSON"),
        (b"[" * 8000, "not a line of JSON: nested more than 2 deep"),
        (b"[" * 60_000, "not a line of JSON: longer than 8192 bytes"),
        (b'{"version": 1, "verb": ' + b"[" * 4000 + b"]" * 4000 + b"}", "nested more than 2 deep"),
        (b'{"version": 1, "verb": {"a": [1]}}', "nested more than 2 deep"),
        (b"9" * 8000, "not a line of JSON: a number of more than 64 digits"),
        (b'{"version": 1e999}', "not a line of JSON"),
        (b'{"version": 1}\0', "not a line of JSON"),
        ('{"version": 1, "verb": "status"}'.encode("utf-16"), "not a line of JSON: not UTF-8"),
        (b'{"version": true, "verb": "status"}', "version True of"),
        (b'"status"', "not a JSON object"),
        (b"[]", "not a JSON object"),
        (
            b'{"verb": "status"}',
            "version None of the control socket is not supported",
        ),
        (b'{"version": 2, "verb": "status"}', "version 2 of"),
        (b'{"version": NaN, "verb": "status"}', "not a line of JSON"),
        (line(), "unknown verb None"),
        (line(verb="dance"), "unknown verb 'dance'"),
        (line(verb=["status"]), "unknown verb ['status']"),
        (line(verb={}), "unknown verb {}"),
        (line(verb="x" * 1000), f"unknown verb '{'x' * 39}..."),
        (line(verb="status", arguments=[]), "status: the arguments must be an object"),
        (line(verb="status", arguments={"a": 1}), "status: unknown argument 'a'"),
        (line(verb="pause", arguments={"seconds": 0}), "pause: seconds cannot be 0"),
        (line(verb="pause", arguments={"seconds": True}), "pause: seconds cannot be True"),
        (line(verb="pause", arguments={"seconds": "1h"}), "pause: seconds cannot be '1h'"),
        (line(verb="pause", arguments={"seconds": 10**40}), "pause: seconds cannot be 1"),
        (line(verb="pause", arguments={"seconds": 3.2e8}), "pause: seconds cannot be 320000000.0"),
        (line(verb="reserve", arguments=RESERVE | {"hold_seconds": 10**15}), "hold_seconds cannot be 1"),
        (line(verb="reserve", arguments=RESERVE | {"timeout_seconds": 10**15}), "timeout_seconds cannot"),
        (line(verb="pause", arguments={"seconds": None}), "pause: seconds cannot be None"),
        (line(verb="cancel"), "cancel: id is missing"),
        (line(verb="cancel", arguments={"id": "3"}), "cancel: id cannot be '3'"),
        (line(verb="release"), "release: domain is missing"),
        (line(verb="reserve"), "reserve: hold_seconds is missing"),
        (line(verb="reserve", arguments=RESERVE | {"size_bytes": 1.5}), "size_bytes cannot be 1.5"),
        (line(verb="reserve", arguments=RESERVE | {"purpose": ""}), "purpose cannot be ''"),
        (line(verb="reserve", arguments=RESERVE | {"purpose": "a\nb"}), "purpose cannot be"),
        (line(verb="release", arguments={"domain": "a\0"}), "domain cannot be"),
        (line(verb="release", arguments={"domain": "\ud800"}), "domain cannot be"),
        (line(verb="reserve", arguments=RESERVE | {"purpose": "x" * 257}), "purpose cannot be"),
    ],
)
def test_what_is_not_understood(sent: bytes, complaint: str) -> None:
    with pytest.raises(UsageError, match=re.escape(complaint)) as caught:
        Request.parse(sent)
    assert len(str(caught.value)) < 200


@given(
    st.binary(max_size=300)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["version", "verb", "arguments", "seconds", "size_bytes"]) | st.text(), inner
            )
        ),
    ).map(lambda said: json.dumps(said).encode())
)
def test_whatever_is_sent_is_a_request_or_refused(sent: bytes) -> None:
    try:
        request = Request.parse(sent)
    except UsageError:
        return
    assert Request.parse(request.encode()) == request


@pytest.mark.parametrize("name", ["a\u202eb", "tab\there", "x" * 256, "😀" * 256, "-rf", "a b"])
def test_whatever_name_libvirt_takes_can_be_named(name: str) -> None:
    for verb, arguments in ((Verb.RELEASE, {"domain": name}), (Verb.RESERVE, RESERVE | {"purpose": name})):
        request = Request(verb=verb, arguments=arguments)
        assert len(request.encode()) < MOST_REQUEST_BYTES
        assert Request.parse(request.encode().rstrip()) == request


@pytest.mark.parametrize("kind", ReplyKind)
def test_a_reply_comes_back(kind: ReplyKind) -> None:
    reply = Reply(kind=kind, body={"sentence": "two\nlines", "bytes": 1})
    sent = reply.encode()
    assert sent.count(b"\n") == 1
    assert Reply.parse(sent) == reply
    assert reply.final is (kind is not ReplyKind.PROGRESS)


@pytest.mark.parametrize("sent", [b"", b"{}", line(), line(result=1), b'{"version": 9, "result": {}}'])
def test_what_is_no_reply(sent: bytes) -> None:
    with pytest.raises(UsageError):
        Reply.parse(sent)


def test_a_document_is_sent_as_it_is_in_one_line() -> None:
    document = {"kind": "status", "sentence": "a\nb", "domains": [{"name": "ü"}]}
    sent = document_line(json.dumps(document, indent=1).encode() + b"\n")
    assert sent.count(b"\n") == 1
    assert Reply.parse(sent) == Reply(kind=ReplyKind.RESULT, body=document)


@pytest.mark.parametrize("kind", [UsageError, Refused, Unsupported, HostError])
def test_an_error_is_raised_at_the_other_end_as_what_it_was(kind: type[OvercommitError]) -> None:
    sent = failure("no", "do this", exit_code=kind.exit_code).encode()
    with pytest.raises(kind, match=r"^no$") as caught:
        Reply.parse(sent).raise_error()
    assert (type(caught.value), caught.value.hint) == (kind, "do this")
