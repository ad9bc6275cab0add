"""Errors of the HTTP API, in OpenAI's shape: what every OpenAI client knows how to read."""

from __future__ import annotations

INVALID = "invalid_request_error"
OVERLOADED = "rate_limit_error"
SERVER = "server_error"


class ApiError(Exception):
    """A request that gets `status` and one sentence instead of an answer."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
        challenge: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.retry_after = retry_after
        self.challenge = challenge

    def body(self) -> dict[str, object]:
        """The JSON document that OpenAI's clients expect."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """`Retry-After`, in seconds, where trying again makes sense; `WWW-Authenticate` with a 401."""
        retry = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        return retry if self.challenge is None else {**retry, "www-authenticate": self.challenge}


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """400: the request must change."""
    return ApiError(400, message, param=param, code=code)


def unknown_model(asked: str, names: tuple[str, ...]) -> ApiError:
    """404 that says what there is."""
    message = f"The model {asked!r} does not exist here; available: {', '.join(names)}."
    return ApiError(404, message, param="model", code="model_not_found")


def overloaded(limit: int) -> ApiError:
    """429: the queue is full; the client may come back in a second."""
    message = f"{limit} requests are already being answered or waiting; try again in a second."
    return ApiError(429, message, kind=OVERLOADED, code="overloaded", retry_after=1)


def unavailable(reason: str) -> ApiError:
    """503: the engine cannot answer now."""
    return ApiError(503, reason, kind=SERVER, code="engine_unavailable", retry_after=5)


def unauthorized(*, missing: bool) -> ApiError:
    """401: no key, or one that is not known; which of them, but nothing about the keys."""
    said = "There is no API key in the request" if missing else "The API key is not known here"
    message = f"{said}; send one as `Authorization: Bearer KEY` or `x-api-key: KEY`."
    return ApiError(401, message, code="invalid_api_key", challenge="Bearer")


def no_keys() -> ApiError:
    """503: a key is required and there is none that could be right."""
    message = "This service requires an API key and has none yet; its Secret of keys must hold at least one."
    return ApiError(503, message, kind=SERVER, code="no_api_keys", retry_after=5)
