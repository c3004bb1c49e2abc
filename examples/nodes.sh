# What the `run.sh` of examples with several nodes have in common: starts `nodes`, one for each NAME.yaml in `here`, has them
# talk, and stops them. Only processes started here are stopped.
set -euo pipefail

root=$(cd "$here/../.." && pwd)
natterjack=${NATTERJACK:-$root/target/release/natterjack}
if [ ! -x "$natterjack" ]; then
    (cd "$root" && cargo build --release --quiet --package natterjack-cli --bin natterjack)
fi
work=$(mktemp -d)
pids=()
inputs=()

stop() {
    # A node that is told to stop drains: what it has accepted reaches the others first.
    if [ ${#pids[@]} -gt 0 ]; then
        for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
        for pid in "${pids[@]}"; do wait "$pid" || true; done
        pids=()
    fi
    rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT TERM

fail() {
    echo "$1" >&2
    # What the nodes complained about.
    grep -H . "$work"/*.log >&2 || true
    exit 1
}

# Tries a command again until it succeeds, for 60 seconds at most.
until_true() {
    local what=$1 end=$((SECONDS + 60))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || fail "$what: not within 60 seconds"
        sleep 0.1
    done
}

all_hear_all() {
    "$natterjack" bus --config "$here/${nodes[0]}.yaml" --status >"$work/status" 2>/dev/null || return 1
    [ "$(grep -c " ${#nodes[@]}/" "$work/status")" -eq ${#nodes[@]} ]
}

has_heard_all() {
    [ "$(wc -l <"$work/$1.out")" -ge ${#nodes[@]} ]
}

echo "Starting ${#nodes[@]} nodes:"
for node in "${nodes[@]}"; do
    mkfifo "$work/$node.in"
    "$natterjack" bus --config "$here/$node.yaml" \
        <"$work/$node.in" >"$work/$node.out" 2>"$work/$node.log" &
    pids+=($!)
    echo "  $node, process $!"
    exec {input}>"$work/$node.in"
    inputs+=("$input")
done

until_true "every node answers every other" all_hear_all
echo
cat "$work/status"

for index in "${!nodes[@]}"; do
    echo "\"hello from ${nodes[$index]}\"" >&"${inputs[$index]}"
done
for node in "${nodes[@]}"; do
    until_true "$node hears everybody" has_heard_all "$node"
    echo
    echo "$node has heard:"
    sed -e 's/.*"data":"\(.*\)"}$/  \1/' "$work/$node.out" | sort
done

echo
echo "Stopping them."
stop
