#!/usr/bin/env bash
# Which branches of the rules SEEDS seeds of the simulation and every plan take; prints the table.
set -euo pipefail
cd "$(dirname "$0")/../.."
host=$(rustc -vV | sed -n 's/^host: //p')
tools=$(rustc --print sysroot)/lib/rustlib/$host/bin
if [ ! -x "$tools/llvm-cov" ]; then
  echo "llvm-cov is missing: rustup component add llvm-tools" >&2
  exit 1
fi
base=${CARGO_TARGET_DIR:-$PWD/target}
target=$base/coverage
mkdir -p "$target"
rm -f "$target"/*.profraw

# Only what is ours is counted. Branches cannot be counted yet without the compiler's word that they may change.
wrapper=$target/rustc
cat > "$wrapper" <<'END'
#!/bin/sh
export RUSTC_BOOTSTRAP=1
exec "$@" -C instrument-coverage -Z coverage-options=branch
END
chmod +x "$wrapper"
RUSTC_WORKSPACE_WRAPPER=$wrapper cargo build -q --profile figures -p serin-sim
program=$target/serin-sim
cp "$base/figures/serin-sim" "$program"

export LLVM_PROFILE_FILE=$target/%4m.profraw
"$program" --seeds "${SEEDS:-2000}" --from "${FROM:-0}" | grep 'broke a law' >&2
"$program" --plans | grep 'broke a law' >&2
"$tools/llvm-profdata" merge -o "$target/merged" "$target"/*.profraw
"$tools/llvm-cov" export "$program" --format=lcov --instr-profile="$target/merged" \
  --sources src/engine src/model > "$target/lcov"

# A branch that was never reached counts as one that was not taken.
echo '| File | Branches | Taken | Lines with one that never was |'
echo '|---|---|---|---|'
awk -F'[:,]' -v root="$PWD/" '
  /^SF:/ { file = substr($0, 4); sub(root, "", file); if (!(file in all)) { order[++files] = file; all[file] = 0 } }
  /^BRDA:/ {
    all[file]++; total++
    if ($5 != "-" && $5 > 0) { taken[file]++; hit++ }
    else if (!((file, $2) in seen)) { seen[file, $2] = 1; missed[file] = missed[file] " " $2 }
  }
  END {
    for (i = 1; i <= files; i++) {
      f = order[i]
      if (all[f]) printf "| %s | %d | %d |%s |\n", f, all[f], taken[f], missed[f]
    }
    printf "| all | %d | %d | %.1f %% |\n", total, hit, total ? 100 * hit / total : 0
  }' "$target/lcov"
