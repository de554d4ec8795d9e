#!/usr/bin/env python3
"""Breaks src/engine on purpose, one small change at a time, and asks the fast tests whether they see it.

`make mutants` draws N of all mutants by SEED, judges them, and writes TABLE.md. AGAIN=1 judges only
those once more that the last run missed, TABLE=1 only writes the table anew. Why a survivor may live
stands in survivors.txt.
"""

import hashlib
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests/mutants"
WORK = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "mutants"
# The list of mutants, and so what a seed draws, is the version's.
VERSION = "27.1.0"
# Not tidy, which reads the code as text, nor toy_router, which builds a copy of it for minutes.
TESTS = ["scenarios", "routers", "kstatus", "moments"]
JUDGES = ["--lib", *(word for test in TESTS for word in ("--test", test))]
# A mutant may ask for memory without an end.
MEMORY = 8 << 30
OUTCOMES = {
    "CaughtMutant": "caught",
    "Timeout": "timeout",
    "Unviable": "unviable",
    "MissedMutant": "missed",
}


def fail(why):
    sys.exit(f"mutants: {why}")


def tool():
    """The environment in which cargo finds the pinned cargo-mutants, installed where it is missing."""
    env = dict(os.environ)
    env["PATH"] = f"{WORK / 'tool/bin'}{os.pathsep}{env['PATH']}"
    ask = ["cargo", "mutants", "--version"]
    if VERSION not in subprocess.run(ask, env=env, capture_output=True, text=True).stdout:
        print(f"installing cargo-mutants {VERSION} to {WORK / 'tool'}", flush=True)
        install = ["cargo", "install", "cargo-mutants", "--locked", "--version", VERSION]
        if subprocess.run([*install, "--root", WORK / "tool"], env=env).returncode:
            fail(f"cargo-mutants {VERSION} is missing and could not be installed: {' '.join(install)}")
    # Not the folder that other builds use: the copy's path would be built into it.
    env["CARGO_TARGET_DIR"] = str(WORK / "build")
    return env


def known(env):
    """Every mutant by its name, with the key under which a reason is kept: no line, but its code."""
    ask = ["cargo", "mutants", "--no-config", "-p", "serin", "-f", "src/engine/**", "--list", "--json"]
    listed = subprocess.run(ask, env=env, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        fail(f"the mutants cannot be listed: {listed.stderr.strip()}")
    mutants, seen = {}, {}
    for mutant in json.loads(listed.stdout):
        file, line, _, what = re.fullmatch(r"(.+?):(\d+):(\d+): (.+)", mutant["name"]).groups()
        code = (ROOT / file).read_text().splitlines()[int(line) - 1].strip()
        key = (f"{file}: {what}", code)
        seen[key] = seen.get(key, 0) + 1
        if seen[key] > 1:
            key = (key[0], f"{code} ({seen[key]})")
        mutants[mutant["name"]] = key
    return mutants


def draw(mutants, seed, number):
    """By a hash of the key: an edit elsewhere does not change what is drawn."""
    rank = lambda name: hashlib.sha256("\n".join((seed, *mutants[name])).encode()).digest()
    return sorted(mutants, key=rank)[:number]


def judge(env, names):
    """What becomes of each."""
    WORK.mkdir(parents=True, exist_ok=True)
    config = WORK / "drawn.toml"
    quoted = [json.dumps(f"^{re.escape(name)}$") for name in names]
    config.write_text("examine_re = [\n" + "".join(f"  {q},\n" for q in quoted) + "]\n")
    run = ["cargo", "mutants", "--config", config, "-p", "serin", "-f", "src/engine/**"]
    run += ["--no-default-features", "--timeout", "90", "--no-shuffle", "--colors", "never"]
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    code = subprocess.run(
        [*run, "--output", WORK, "--", *JUDGES], env=env, cwd=ROOT, preexec_fn=limit
    ).returncode
    # 2 and 3: some were missed, some took too long.
    if code not in (0, 2, 3):
        fail(f"cargo mutants ended with {code}")
    outcomes = json.loads((WORK / "mutants.out/outcomes.json").read_text())["outcomes"]
    mutants = [(o["scenario"]["Mutant"]["name"], o) for o in outcomes if o["scenario"] != "Baseline"]
    # Fields that are left out are judged whatever is asked for.
    return {name: OUTCOMES[o["summary"]] for name, o in mutants if name in names}


def reasons():
    """survivors.txt: blocks of the mutant, the line of code that it changes, and the reason."""
    blocks = re.split(r"\n\s*\n", (HERE / "survivors.txt").read_text().strip())
    found = {}
    for block in blocks:
        lines = [line.strip() for line in block.splitlines() if not line.startswith("#")]
        if len(lines) >= 3:
            found[lines[0], lines[1]] = " ".join(lines[2:])
    return found


def commit():
    git = lambda *ask: subprocess.run(["git", *ask], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    at = git("describe", "--always", "--abbrev=12", "--exclude", "*") or "unknown"
    # What is written here is no part of what is judged.
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!tests/mutants")
    return f"{at}-dirty" if changed else at


def cell(text):
    return text.replace("|", "\\|")


def table(last, mutants):
    became = last["became"]
    count = {what: sum(b == what for b in became.values()) for what in OUTCOMES.values()}
    found, viable = count["caught"] + count["timeout"], len(became) - count["unviable"]
    share = 100 * found / viable if viable else 0.0
    again = f" Those missed were judged again at {last['again']}." if last.get("again") else ""
    why = reasons()
    rows, lacking = [], 0
    for name in sorted(n for n, b in became.items() if b == "missed"):
        key = mutants.get(name, (name, ""))
        reason = why.get(key)
        lacking += reason is None
        what = key[0].removeprefix("src/engine/")
        rows.append(f"| {cell(what)} | `{cell(key[1])}` | {cell(reason or '**none yet**')} |")
    text = f"""# Mutants of src/engine at {last['commit']}

`make mutants SEED={last['seed']} N={last['number']}` writes this table: small changes to the engine, one at a time, judged by
`cargo test --no-default-features {' '.join(JUDGES)}`.{again}

| | |
|---|---|
| All there are | {last['all']} |
| Drawn | {len(became)} |
| Do not compile | {count['unviable']} |
| Caught | {count['caught']} |
| Caught by never coming to an end | {count['timeout']} |
| Missed | {count['missed']} |
| **Caught, of those that compile** | **{share:.1f} %** |

## Survivors

| Mutant | Where | Why it lives |
|---|---|---|
"""
    (HERE / "TABLE.md").write_text(text + "".join(f"{row}\n" for row in rows))
    print(f"{found} of {viable} caught, {share:.1f} %; {lacking} survivors without a reason")
    print("written to tests/mutants/TABLE.md")
    stale = [key for key in why if key not in mutants.values()]
    for name, code in stale:
        print(f"survivors.txt: there is no such mutant any more: {name}: {code}")


def main():
    env = tool()
    mutants = known(env)
    record = WORK / "last.json"
    if os.environ.get("AGAIN") or os.environ.get("TABLE"):
        if not record.exists():
            fail("there is no last run: first run `make mutants`")
        last = json.loads(record.read_text())
        if os.environ.get("AGAIN"):
            at = commit()
            missed = [name for name, became in last["became"].items() if became == "missed"]
            if gone := [name for name in missed if name not in mutants]:
                fail(f"src/engine has changed since the last run: {gone[0]}")
            if missed:
                last["became"] |= judge(env, missed)
                last["again"] = at
    else:
        seed, number = os.environ.get("SEED") or "1", int(os.environ.get("N") or 300)
        drawn = draw(mutants, seed, number)
        print(f"SEED={seed}: {len(drawn)} of {len(mutants)} mutants", flush=True)
        last = {"seed": seed, "number": number, "all": len(mutants), "commit": commit()}
        last["became"] = judge(env, drawn)
        if lost := set(drawn) - set(last["became"]):
            fail(f"{len(lost)} were not judged, such as {sorted(lost)[0]}")
    record.write_text(json.dumps(last, indent=1))
    table(last, mutants)


main()
