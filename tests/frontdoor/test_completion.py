"""Completion at the Tab key, as bash does it with our script."""

import subprocess

import pytest

from radixroute.router.policy.registry import POLICIES


@pytest.fixture
def completed(cli):
    """What bash offers at the end of a line."""
    script = cli("completion", "bash").stdout

    def complete(line: str) -> set[str]:
        words = line.split(" ")
        quoted = " ".join(f"'{word}'" for word in words)
        ask = (
            f"{script}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}\n"
            "_radixroute\nprintf '%s\\n' \"${COMPREPLY[@]}\""
        )
        done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return set(done.stdout.split())

    return complete


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("radixroute su", {"submit"}),
        ("radixroute events re", {"record", "replay"}),
        ("radixroute replay sy", {"synth"}),
        ("radixroute replay synth hot", {"hot_prefix"}),
        ("radixroute submit hello --mess", {"--messages"}),
        ("radixroute replay run t.jsonl --skip-l", {"--skip-long"}),
        ("radixroute --config f work", {"workers"}),
        ("radixroute submit hello", set()),  # the shell's own: files
        ("radixroute up --policy round", {"round_robin"}),
        ("radixroute completion z", {"zsh"}),
    ],
)
def test_a_word_is_completed_where_it_stands(completed, line, offered):
    assert completed(line) == offered


def test_every_command_and_every_policy_is_offered(completed, cli):
    assert {"up", "down", "submit", "explain", "replay", "completion"} <= completed("radixroute ")
    assert completed("radixroute submit x --policy ") == set(POLICIES)


def test_zsh_takes_the_same_by_its_emulation(cli):
    bash, zsh = cli("completion", "bash").stdout, cli("completion", "zsh").stdout
    assert zsh.endswith(bash)
    assert "bashcompinit" in zsh
    assert cli("completion", "fish").exit_code == 2
