"""Every command says what it does, in which units, and what it does by itself."""

from __future__ import annotations

from collections.abc import Iterator

import click
import msgspec
import pytest

import fanout as package
from fanout.cli import cli
from fanout.control.config import ControlConfig
from gateway.config import GatewayConfig

from .running import error, fanout, good


def commands(command: click.Command = cli, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command with the words that lead to it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from commands(child, *path, name)


ALL = list(commands())


@pytest.mark.parametrize("path", [path for path, _ in ALL], ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    for flag in ("--help", "-h"):
        said = good(fanout(*path, flag))
        assert said.startswith(f"Usage: {' '.join(('fanout', *path))}")
        assert "Options:" in said


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) for path, _ in ALL])
def test_every_option_is_described_and_shows_its_default(path: tuple[str, ...], command: click.Command) -> None:
    said = " ".join(good(fanout(*path, "--help")).split())
    for option in command.params:
        if not isinstance(option, click.Option):
            continue
        assert option.help, f"{option.name} has no description"
        assert max(option.opts, key=len) in said
        if option.default not in (None, False, "", ()) and not option.required and not option.is_flag:
            assert "default: " in said
        if not option.is_eager:
            assert isinstance(option.envvar, str)
            assert option.envvar.startswith("FANOUT_")
            assert option.envvar in said


def test_times_name_their_unit() -> None:
    units = ("s.", "s;", "second", "ms.", "ms;", "ISO 8601")
    for path, command in ALL:
        for option in command.params:
            name = option.name or ""
            if isinstance(option, click.Option) and (
                name.endswith(("_s", "_ms", "window")) or name in ("at", "from_")
            ):
                assert any(unit in (option.help or "") + "." for unit in units) or "Seconds" in (option.help or ""), (
                    path,
                    name,
                    option.help,
                )


@pytest.mark.parametrize(("command", "kind"), [("gateway", GatewayConfig), ("control", ControlConfig)])
def test_every_setting_of_a_process_is_an_option_of_it(command: str, kind: type[msgspec.Struct]) -> None:
    said = good(fanout(command, "--help"))
    for name in kind.__struct_fields__:
        assert f"--{name.replace('_', '-')}" in said
    for field in msgspec.structs.fields(kind):
        if isinstance(field.default, bool):
            assert f"--no-{field.name.replace('_', '-')}" in said
        elif isinstance(field.default, int | float):
            assert f"{field.default}" in " ".join(said.split())


def test_the_version_is_the_packages() -> None:
    assert good(fanout("--version")).strip() == f"fanout, version {package.__version__}"


@pytest.mark.parametrize(
    "words",
    [["nonsense"], ["campaign", "nonsense"], ["token"], ["gateway", "--port", "70000"], ["demo", "--devices", "0"]],
)
def test_wrong_usage_is_one_line_that_says_what_is_wrong(words: list[str]) -> None:
    result = fanout(*words)
    assert result.exit_code == 2
    assert error(result)


@pytest.mark.parametrize("command", ["demo", "swarm"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_starts(command: str) -> None:
    needs = ["--url", "ws://127.0.0.1:1"] if command == "swarm" else ["--headless"]
    assert "/nowhere/out.json" in error(fanout(command, *needs, "--json", "/nowhere/out.json"))


def test_windows_beyond_their_limits_are_refused_before_anything_starts() -> None:
    assert "600" in error(fanout("demo", "--headless", "--activate-window", "601"))
