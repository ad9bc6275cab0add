"""The README's commands and file map are true."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from kairay.cli.main import COMMANDS, LazyGroup, cli
from kairay.workspace import parse_documents

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text()


def text_of(pages: list[Path]) -> str:
    return "\n".join(page.read_text() for page in pages)


def test_every_path_of_the_file_map_exists() -> None:
    paths = [p for row in re.findall(r"^\| (`.*?) \|", README, re.M) for p in re.findall(r"`([^`]+)`", row)]
    assert len(paths) > 10
    assert [p for p in paths if not (ROOT / p).exists()] == []


def test_every_make_target_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"\bmake (?:-s )?([a-z][a-z-]*)\b", text_of(PAGES)))
    assert {"demo", "test"} <= named <= targets | {"sure", "it"}


def test_every_kairay_command_named_exists() -> None:
    named = set(re.findall(r"^ {4}(?:.*[$ ])?kairay ([a-z]+)", text_of(PAGES), re.M))
    assert named
    assert named <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    assert isinstance(cli, LazyGroup)
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name
    assert command.help
    undocumented = [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
    assert undocumented == []


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", README, re.S))
def test_every_workspace_in_the_readme_is_one_that_kairay_takes(block: str) -> None:
    assert parse_documents(block, "README.md").workspaces


def test_links_point_to_files_that_are_there() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
