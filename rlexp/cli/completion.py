"""The command `rlexp completion`: tools, studies and folders by this module, overrides by Hydra.

A shell's script asks `rlexp completion query LINE` for the words that LINE's last one may become, one in a line.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from rlexp.cli.help import TOOLS
from rlexp.config.paths import configured
from rlexp.system import search_path
from rlexp.system.stored_files import folders_with
from rlexp.system.tool import Parser, tool

BASH = r"""_rlexp() {
    local line=${COMP_LINE:0:COMP_POINT} word begun sign kept=
    word=${line##*[[:space:]]}
    for sign in = :; do  # where these break words, bash replaces only what follows the last of them
        begun=${word%"$sign"*}$sign
        [[ $COMP_WORDBREAKS == *"$sign"* && $word == *"$sign"* && ${#begun} -gt ${#kept} ]] && kept=$begun
    done
    COMPREPLY=()
    while IFS= read -r word; do
        COMPREPLY+=("${word#"$kept"}")
    done < <(rlexp completion query "$line" 2>/dev/null)
    [[ ${#COMPREPLY[@]} == 1 && $COMPREPLY == *[=./] ]] && compopt -o nospace
}
complete -o default -F _rlexp rlexp
"""
ZSH = r"""_rlexp() {
    local -a found whole begun
    found=("${(@f)$(rlexp completion query "${(j: :)${(@)words[1,CURRENT]}}" 2>/dev/null)}")
    whole=(${found:#*[=./]})
    begun=(${(M)found:#*[=./]})
    (( $#whole + $#begun )) || { _files; return }
    compadd -a whole
    compadd -S '' -a begun
}
compdef _rlexp rlexp
"""
FISH = r"""complete -c rlexp -a '(rlexp completion query (commandline -cp | string collect) 2>/dev/null)'
"""
PRESETS = ("experiment", "sweep", "discretizer")
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


@tool
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = Parser(
        prog="rlexp completion",
        description="Print a script that lets a shell complete rlexp's tools, studies, folders and overrides.",
        examples=(
            'eval "$(rlexp completion bash)"      # in ~/.bashrc',
            'eval "$(rlexp completion zsh)"       # in ~/.zshrc, behind compinit',
            "rlexp completion fish | source      # in ~/.config/fish/config.fish",
        ),
    )
    parser.add_argument("shell", choices=(*SCRIPTS, "query"), help="query: what the scripts ask")
    parser.add_argument("line", nargs="?", default="", help="of query: the command line up to the cursor")
    args = parser.parse_args(argv)
    if args.shell == "query":
        print("".join(f"{word}\n" for word in candidates(args.line)), end="")
    else:
        print(SCRIPTS[args.shell], end="")
    return 0


def candidates(line: str) -> list[str]:
    """What the last word of a command line may become, sorted; only words that a shell takes as they are."""
    *before, word = line.split(" ")
    before = [each for each in before if each][1:]  # without the command itself
    found: set[str] = set()
    if before in ([], ["help"]):
        found |= {"run", *TOOLS}
    elif before == ["completion"]:
        found |= {*SCRIPTS}
    elif before[0] == "sync" and before[-1] == "--to":
        from rlexp.cli.sync import TARGETS

        found |= {*TARGETS}
    elif before == ["env"]:
        found |= {*configured("env")}
    elif before[0] in TOOLS:
        found |= set(_folders(before, word))
    if search_path.trains([*before, "run"]):
        found |= set(_overrides([each for each in before if each != "run"], word))
    return sorted(each for each in found if each.startswith(word) and shlex.quote(each) == each)


def _folders(before: Sequence[str], word: str) -> Iterator[str]:
    """Studies for the tools that take one, paths for those that take a folder; no second one but for a report."""
    output_dir = Path("outputs")
    if "--output-dir" in before[:-1]:
        output_dir = Path(before[before.index("--output-dir") + 1])
    given = any(not each.startswith("-") and not last.startswith("-") for last, each in pairwise(before))
    given = given and before[0] != "report"  # it compares several studies
    if before[0] not in ("best", "ls", "play", "report", "sync", "ui") or given or before[-1].startswith("-"):
        return
    for folder in folders_with(output_dir, "job.json", "*/*"):
        if before[0] in ("best", "ls", "report", "ui"):
            if folder.parent.name not in before[1:]:
                yield folder.parent.name
        else:
            study = f"{folder.parent}/"
            yield str(folder) if word.startswith(study) else study


def _overrides(before: Sequence[str], word: str) -> Iterator[str]:
    """What Hydra knows; and the names of presets, since it does not look into their folders."""
    from rlexp.cli.run import ask_hydra

    yield from ("hydra/", *(f"+{group}=" for group in PRESETS))
    for group in PRESETS:
        if word.startswith(f"+{group}="):
            yield from (f"+{group}={name}" for name in configured(group))
    found = ask_hydra(" ".join(["rlexp", *before, word]))
    yield from (each for each in found if "=" in each or each.endswith((".", "/")))
