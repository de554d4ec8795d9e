#!/usr/bin/env python3
"""Throws at Serin whatever strangers can write, and keeps what is worth keeping.

`make fuzz` runs each target for FOR seconds (TARGET: one of them; JOBS: so many at a time), begins with
what stands in corpora, leaves the smallest set there that reaches as much, and writes TABLE.md. An input
that breaks something is printed and kept in the target folder; it ends with an error then.
"""

import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests/fuzz"
WORK = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "fuzz"
FOR = int(os.environ.get("FOR") or 600)
JOBS = int(os.environ.get("JOBS") or 2)
# An input that is kept has so many bytes at most, and a target so many inputs.
LONGEST = 600
MOST = 150
# The coverage of SanitizerCoverage, with the compiler that everybody has.
FLAGS = (
    "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
    " -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
    " -Cllvm-args=-sanitizer-coverage-trace-compares"
)
SEEDS = {
    "answer": [
        b'\0{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1800000000,"0.5"]}]}}',
        b'\0{"status":"success","data":{"resultType":"scalar","result":[1800000000,"NaN"]}}',
        b'\1{"status":"error","errorType":"bad_data","error":"parse error"}',
        b'\0{"status":"success","isPartial":true,"warnings":["some"],"data":{"resultType":"matrix","result":[]}}',
    ],
    "command": [b"\0000=$canary/1", b"\0074=$canary@1/x\nE=system:serviceaccount:a:b", b"\0111=now\nA=me"],
    "query": [b'a"b\\\nsum(rate(x{a="{{args.service}}",b=~\'{{canary.hash}}\'}[{{window}}])) # {{args.service}}'],
    "spec": [
        b'\0{"replicas":3,"strategy":{"canary":{"steps":[{"setWeight":20},{"pause":{"duration":"1m"}}]}}}',
        b'\7{"strategy":{"canary":null,"blueGreen":{"service":"app","autoPromotionDelay":"5s"}}}',
        b'\11{"paused":true,"minReadySeconds":-1,"progressDeadlineSeconds":0,"revisionHistoryLimit":0}',
        b'\5{"strategy":{"canary":{"trafficRouting":{"gatewayAPI":{"httpRoutes":[{"name":"app","rule":"a"}]}}}}}',
    ],
    "unit": [b"1h30m", b"90d", b">= 0.99", b"<1e-3", b"abc@1/x"],
    "world": [b"\0\0\1\2\n7", b"\3\1\1\1\n{}", b"\7\4\0\n"],
}


def fail(why):
    sys.exit(f"fuzz: {why}")


def build():
    host = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    host = re.search(r"^host: (.*)$", host, re.M).group(1)
    env = dict(os.environ, RUSTFLAGS=FLAGS, CARGO_TARGET_DIR=str(WORK / "build"))
    # With a target named, build scripts and macros stay as they are.
    made = ["cargo", "build", "--release", "--locked", "--target", host]
    if subprocess.run(made, cwd=HERE, env=env).returncode:
        fail("it does not build (a C++ compiler is needed, too: Debian's g++)")
    return WORK / "build" / host / "release/fuzz"


def words():
    """Names and values that manifests have, as a dictionary."""
    text = "".join(p.read_text() for p in sorted((ROOT / "crds").glob("*.yaml")))
    found = set(re.findall(r"^ +([A-Za-z]{2,32}):", text, re.M)) | set(re.findall(r"^ +- ([A-Za-z]{2,32})$", text, re.M))
    path = WORK / "words"
    path.write_text("".join(f'"{word}"\n' for word in sorted(found)))
    return path


def unpack(name):
    folder = WORK / "corpus" / name
    folder.mkdir(parents=True, exist_ok=True)
    inputs = list(SEEDS.get(name, []))
    if name == "manifest":
        files = [*(ROOT / "docs/examples").glob("*.yaml"), *(ROOT / "tests/lint").rglob("*.yaml")]
        inputs += [f.read_bytes() for f in sorted(files)]
    kept = HERE / "corpora" / f"{name}.hex"
    if kept.exists():
        inputs += [bytes.fromhex(line) for line in kept.read_text().split("\n") if line]
    for n, one in enumerate(inputs):
        (folder / f"kept-{n}").write_bytes(one)
    return folder


def run(fuzz, name, dictionary):
    folder, found = unpack(name), WORK / "found" / name
    found.mkdir(parents=True, exist_ok=True)
    env = dict(os.environ, SERIN_FUZZ=name, RUST_BACKTRACE="0")
    settings = ["-max_len=4096", "-timeout=20", "-rss_limit_mb=3000", f"-artifact_prefix={found}/"]
    ask = [fuzz, folder, f"-max_total_time={FOR}", "-print_final_stats=1", f"-dict={dictionary}", *settings]
    log = WORK / f"{name}.log"
    with log.open("w") as out:
        code = subprocess.run(ask, env=env, stdout=out, stderr=subprocess.STDOUT).returncode
    said = log.read_text(errors="replace")
    runs = re.findall(r"stat::number_of_executed_units: *(\d+)", said)
    reached = re.findall(r"cov: (\d+) ft: (\d+)", said)
    row = {"runs": int(runs[-1]) if runs else 0, "reached": reached[-1] if reached else ("0", "0"), "ok": code == 0}
    if code:
        print("\n".join(said.split("\n")[-40:]), flush=True)
        return name, row
    small = WORK / "small" / name
    shutil.rmtree(small, ignore_errors=True)
    small.mkdir(parents=True)
    merge = [fuzz, "-set_cover_merge=1", small, folder, *settings, f"-max_len={LONGEST}"]
    subprocess.run(merge, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    inputs = sorted((p.read_bytes() for p in small.iterdir()), key=lambda b: (len(b), b))
    inputs = [b for b in inputs if 0 < len(b) <= LONGEST]
    if len(inputs) > MOST:
        # Spread over all sizes.
        inputs = [inputs[i * len(inputs) // MOST] for i in range(MOST)]
    (HERE / "corpora").mkdir(exist_ok=True)
    (HERE / "corpora" / f"{name}.hex").write_text("".join(f"{b.hex()}\n" for b in inputs))
    return name, {**row, "kept": len(inputs)}


def table(rows):
    at = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude", "*"]
    at = subprocess.run(at, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    lines = [
        f"# Fuzzing at {at}",
        "",
        f"`make fuzz FOR={FOR}` writes this table: what `tests/fuzz/src/targets` throws at Serin, for {FOR} seconds each.",
        "",
        "| Target | Inputs tried | Edges reached | Features | Kept | |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in sorted(rows):
        edges, features = row["reached"]
        end = "nothing broke" if row["ok"] else "BROKE"
        lines.append(f"| {name} | {row['runs']} | {edges} | {features} | {row.get('kept', '')} | {end} |")
    print("\n".join(lines), flush=True)
    if not os.environ.get("TARGET"):
        (HERE / "TABLE.md").write_text("\n".join(lines) + "\n")


def main():
    fuzz = build()
    source = (HERE / "src/targets/mod.rs").read_text()
    names = re.findall(r'^    \("(\w+)", \w+::target\)', source, re.M)
    one = os.environ.get("TARGET")
    if one:
        names = [one] if one in names else fail(f"there is no target {one}, but {', '.join(names)}")
    dictionary = words()
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        rows = list(pool.map(lambda name: run(fuzz, name, dictionary), names))
    table(rows)
    broke = [name for name, row in rows if not row["ok"]]
    if broke:
        fail(f"{', '.join(broke)} broke: the inputs are in {WORK / 'found'}")


main()
