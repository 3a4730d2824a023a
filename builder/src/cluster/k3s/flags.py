#!/usr/bin/env python3
"""Prints the flags of `k3s server` and `k3s agent` as a table, from a checkout of k3s-io/k3s at a release's tag:

    builder/src/cluster/k3s/flags.py CHECKOUT > builder/src/cluster/k3s/flags-1.NN.tsv

and the file is named in `TABLES` of `builder/src/cluster/k3s.rs`. Looked at are pkg/cli/cmds/{server,agent,log,root}.go: composite literals of
`cli.XxxFlag` with a Name, whether they stand in the list of a command or are named variables that a list names.
"""

import pathlib
import re
import subprocess
import sys

KINDS = {"String": "text", "Bool": "switch", "Int": "number", "Duration": "duration", "StringSlice": "list"}


def literals(text):
    """Name of the variable (or none), kind and flag of each literal, with its place."""
    form = re.compile(r"(?:(\w+)\s*=\s*)?&?cli\.(StringSlice|String|Bool|Int|Duration)Flag\{(.*?)\n\t*\}", re.S)
    for match in form.finditer(text):
        name = re.search(r'\bName:\s*"([^"]+)"', match.group(3))
        if name:
            yield match.start(), match.group(1), KINDS[match.group(2)], name.group(1)


def listed(text, begin):
    """The text of the list of flags that begins behind `begin`."""
    at = text.find(begin)
    if at < 0:
        return 0, 0
    depth, place = 0, text.index("{", at)
    for end in range(place, len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return place, end
    return place, len(text)


def main():
    folder = pathlib.Path(sys.argv[1]) / "pkg/cli/cmds"
    texts = {path.stem: path.read_text() for path in folder.glob("*.go") if not path.stem.endswith("_test")}
    named = {}
    for text in texts.values():
        for _, variable, kind, flag in literals(text):
            if variable:
                named[variable] = (flag, kind)
    found = {}
    for command, file, begin in [("server", "server", "ServerFlags = "), ("agent", "agent", "Flags: ")]:
        text = texts[file]
        start, end = listed(text, begin)
        rows = {(flag, kind) for at, _, kind, flag in literals(text) if start <= at < end}
        rows |= {named[word] for word in re.findall(r"\b\w+\b", text[start:end]) if word in named}
        for row in rows:
            found.setdefault(row, set()).add(command)
    describe = ["git", "-C", sys.argv[1], "describe", "--always", "--tags", "--long", "--abbrev=40"]
    version = subprocess.run(describe, capture_output=True, text=True, check=False).stdout.strip()
    print("# Flags of `k3s server` and `k3s agent`, which are the keys of config.yaml: name, kind, command. k3s-io/k3s,")
    print(f"# pkg/cli/cmds, {version}, by flags.py.")
    for (flag, kind), commands in sorted(found.items()):
        print(flag, kind, "both" if len(commands) == 2 else commands.pop(), sep="\t")


main()
