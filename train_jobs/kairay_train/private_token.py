"""The token of a Ray that lives for one run only; it has to be in the environment before Ray is imported."""

from __future__ import annotations

import secrets
from collections.abc import MutableMapping


def ensure_token(environment: MutableMapping[str, str]) -> None:
    """Turn token authentication on for a Ray of our own; leave everything as it is when we belong to
    another."""
    if environment.get("RAY_ADDRESS") or environment.get("RAY_AUTH_MODE"):
        return
    environment["RAY_AUTH_MODE"] = "token"
    if not environment.get("RAY_AUTH_TOKEN_PATH"):
        environment.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
