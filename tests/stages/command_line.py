"""The command line as a person types it."""

from __future__ import annotations

import pytest

from kairay.cli.main import main


def kairay(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The exit code, and what was written to standard output and to standard error."""
    code = exit_code(*arguments)
    out, err = capsys.readouterr()
    return code, out, err


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    assert isinstance(left.value.code, int)
    return left.value.code
