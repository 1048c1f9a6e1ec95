"""What anybody on the host may send to the control socket."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from overcommit.errors import UsageError
from overcommit.wire.protocol import MOST_REQUEST_BYTES, Reply, Request, Verb, failure

WORDS = st.sampled_from(
    ["version", "verb", "arguments", *("seconds", "size_bytes", "purpose", "domain", "id", "hold_seconds")]
) | st.text(max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300) | WORDS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=20,
)
LIKE_A_REQUEST = st.fixed_dictionaries(
    {},
    optional={
        "version": st.just(1) | VALUES,
        "verb": st.sampled_from([verb.value for verb in Verb]) | VALUES,
        "arguments": st.dictionaries(WORDS, VALUES, max_size=5) | VALUES,
    },
)
NESTED = st.builds(
    lambda opening, count, close: b'{"version":1,"verb":' + opening * count + close * count + b"}",
    st.sampled_from([b"[", b'{"a":', b'["', b'"[', b'\\"[', b'[{"":']),
    st.integers(0, 12_000),
    st.sampled_from([b"]", b"}", b'"]', b""]),
)
SENT = (
    st.binary(max_size=400)
    | VALUES.map(lambda value: json.dumps(value).encode())
    | LIKE_A_REQUEST.map(lambda said: json.dumps(said).encode())
    | LIKE_A_REQUEST.map(lambda said: json.dumps(said, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    | LIKE_A_REQUEST.map(lambda said: json.dumps(said).encode("utf-16"))
    | NESTED
    | st.builds(
        lambda said, at, byte: said[:at] + byte + said[at:],
        LIKE_A_REQUEST.map(lambda said: json.dumps(said).encode()),
        st.integers(0, 200),
        st.binary(min_size=1, max_size=3),
    )
)


def outcome(sent: bytes) -> tuple[Request | None, UsageError | None]:
    try:
        return Request.parse(sent), None
    except UsageError as error:
        return None, error


@given(SENT)
@example(b'{"version":1,"verb":' + b"[" * 4000 + b"]" * 4000 + b"}")
@example(b'{"version":1,"verb":' + b"[" * 9_995 + b"]" * 9_995 + b"}")
@example(b'"' + b'\\"' * 4000)
@example(b"9" * 8000)
def test_any_line_is_a_request_or_refused_in_one_short_line(sent: bytes) -> None:
    request, refused = outcome(sent)
    if request is not None:
        assert len(request.encode()) <= MOST_REQUEST_BYTES
        assert Request.parse(request.encode()) == request
    if refused is not None:
        assert len(str(refused)) < 200
        assert str(refused).isprintable()
        # It can be sent as an answer, which is understood.
        reply = failure(str(refused), refused.hint, exit_code=refused.exit_code)
        assert Reply.parse(reply.encode()) == reply
