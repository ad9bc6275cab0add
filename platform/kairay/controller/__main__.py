"""`python -m kairay.controller`: settings from the environment, one JSON line per event on stderr."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator

from kairay.controller.app import Options, run
from kairay.controller.log import Log
from kairay.controller.settings import read_settings
from kairay.errors import InputError, KairayError

_DEFAULT_NAMESPACE = "kairay-system"


def main() -> int:
    """Run until told to stop; the exit code of the error tree otherwise."""
    log = Log()
    try:
        settings = read_settings(os.environ)
        options = Options(
            namespace=os.environ.get("KAIRAY_NAMESPACE", _DEFAULT_NAMESPACE),
            http_host=os.environ.get("KAIRAY_HTTP_HOST", "0.0.0.0"),  # noqa: S104  the kubelet asks from outside
            http_port=_port(os.environ.get("KAIRAY_HTTP_PORT", "8081")),
        )
        asyncio.run(run(settings, options, log))
    except KairayError as error:
        log.fault("ended", reason=error.reason, message=error.message)
        return error.exit_code
    except BaseExceptionGroup as group:
        for each in _leaves(group):
            log.fault("ended", reason=getattr(each, "reason", type(each).__name__), message=str(each))
        return 1
    return 0


def _port(text: str) -> int:
    if not text.isdigit():
        raise InputError(f"KAIRAY_HTTP_PORT={text!r} is not a port; give a number")
    return int(text)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


if __name__ == "__main__":
    sys.exit(main())
