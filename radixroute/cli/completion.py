"""The command `completion`: a script that completes commands and options in bash and zsh.

Owns the script, made once from the application's own commands: nothing of ours runs at a key press.
Words that name no command are left to the shell, which completes files.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any

import typer


class Shell(StrEnum):
    """Shells that a script is made for."""

    BASH = "bash"
    ZSH = "zsh"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(completion)


def completion(
    ctx: typer.Context, shell: Annotated[Shell, typer.Argument(help="bash or zsh.")]
) -> None:
    """Print a script that completes commands, options and policies at the Tab key.

    Example: [bold]eval "$(radixroute completion bash)"[/]  (in ~/.bashrc; zsh in ~/.zshrc)
    """
    typer.echo(script(ctx.find_root().command, shell))


def script(application: Any, shell: Shell) -> str:
    """For one shell; zsh has an emulation of bash's completion."""
    places = dict(_places(application, ""))
    known = "|".join(f'"{place}"' for place in places if place)
    words = "\n".join(
        f'        "{place}") commands="{" ".join(commands)}"; options="{" ".join(options)}" ;;'
        for place, (commands, options) in places.items()
    )
    body = _SCRIPT.format(known=known, words=words, policies=" ".join(_policies()))
    return _ZSH + body if shell is Shell.ZSH else body


def _places(command: Any, place: str) -> Iterator[tuple[str, tuple[list[str], list[str]]]]:
    """Each command by its path: what may come next, and its options."""
    inside: dict[str, Any] = getattr(command, "commands", {})
    options = sorted(
        {name for one in command.params for name in one.opts if name.startswith("-")} | {"--help"}
    )
    yield place, (list(inside) or _ARGUMENTS.get(place, list)(), options)
    for name, one in inside.items():
        yield from _places(one, f"{place}/{name}")


def _policies() -> list[str]:
    from radixroute.router.policy.registry import POLICIES

    return list(POLICIES)


def _kinds() -> list[str]:
    from radixroute.replay.synth.workloads import KINDS

    return list(KINDS)


# Arguments that are one of a few words.
_ARGUMENTS: dict[str, Any] = {
    "/completion": lambda: list(Shell),
    "/policies": _policies,
    "/replay/synth": _kinds,
}
_ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"
_SCRIPT = """_radixroute() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}"
    local place="" word commands="" options=""
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "$place/$word" in
            {known}) place="$place/$word" ;;
        esac
    done
    case "$place" in
{words}
    esac
    case "$before" in
        --policy) commands="{policies}" ;;
    esac
    case "$current" in
        -*) COMPREPLY=($(compgen -W "$options" -- "$current")) ;;
        *) COMPREPLY=($(compgen -W "$commands" -- "$current")) ;;
    esac
}}
complete -o default -F _radixroute radixroute"""
