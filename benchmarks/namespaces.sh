#!/usr/bin/env bash
# Four hosts on one machine: network namespaces with an address each, a Dask scheduler in the first, a worker in every
# one. A search from outside has them train its children, one of them is cut off in the middle, and what comes out is
# compared with a search in one process: the trials have to be the same, bit for bit.
#
#     sudo env PATH="$PATH" benchmarks/namespaces.sh                  # takes minutes; leaves nothing behind
#     sudo env PATH="$PATH" benchmarks/namespaces.sh --children 40    # flags of the search
#
# Needs Linux, root (for namespaces), `ip` and `pip install 'jaxad[cluster]'`. Addresses are of 198.18.0.0/24, which is
# reserved for measurements, on a bridge that leads nowhere.
set -euo pipefail

hosts=4 subnet=198.18.0 name=jx$$ scheduler=tcp://198.18.0.11:8786
root=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
flags=(--dataset digits --num-layers 1 --children 24 --population 8 --steps 5 --retrain-steps 20 --retrain-top 1
    --rivals none --time-budget None --quiet "$@")
export NPROC=1 JAX_PLATFORMS=cpu OMP_NUM_THREADS=1 HOME=$scratch

take_down() {
    kill ${search:-} 2>/dev/null || true
    for host in $(seq $hosts); do
        ip netns pids "$name$host" 2>/dev/null | xargs -r kill -9 || true
        ip netns del "$name$host" 2>/dev/null || true
        ip link del "$name-$host" 2>/dev/null || true
    done
    ip link del "$name" 2>/dev/null || true
    rm -rf "$scratch"
}
trap take_down EXIT

ip link add "$name" type bridge
ip addr add $subnet.1/24 dev "$name"
ip link set "$name" up
for host in $(seq $hosts); do
    ip netns add "$name$host"
    ip link add "$name-$host" type veth peer name eth0 netns "$name$host"
    ip link set "$name-$host" master "$name" up
    ip -n "$name$host" addr add "$subnet.$((10 + host))/24" dev eth0
    ip -n "$name$host" link set eth0 up
    ip -n "$name$host" link set lo up
done

on() { # HOST COMMAND ...: in the background, under a host name of its own
    local host=$1
    shift
    ip netns exec "$name$host" unshare --uts sh -c "hostname host$host && exec \"\$@\"" sh "$@" >"$scratch/$host.log" 2>&1 &
    disown # or bash tells of its end
}
ip netns exec "${name}1" dask scheduler --host $subnet.11 --port 8786 --no-dashboard >"$scratch/scheduler.log" 2>&1 &
disown
for host in $(seq $hosts); do
    on "$host" dask worker $scheduler --host "$subnet.$((10 + host))" --nthreads 1 --no-dashboard --death-timeout 60
done

cd "$scratch"
began=$SECONDS
python "$root/experiments/autoad_search.py" "${flags[@]}" --output among --scheduler $scheduler --child-timeout 120 &
search=$!
# Once all hosts have trained a child, the last one loses its network.
cut=no
while kill -0 $search 2>/dev/null; do
    seen=$({ grep -o 'host[0-9]*' among/workers.jsonl 2>/dev/null || true; } | sort -u | wc -l)
    if [ $cut = no ] && [ "$seen" -eq $hosts ]; then
        ip link set "$name-$hosts" down
        cut=$(wc -l <among/workers.jsonl)
    fi
    sleep 0.2
done
wait $search
if [ $cut = no ]; then
    echo "the search ended before every host had trained a child: give it more --children" >&2
    exit 1
fi
echo "among $hosts hosts: $((SECONDS - began)) s; host$hosts lost its network after $cut children"
began=$SECONDS
python "$root/experiments/autoad_search.py" "${flags[@]}" --output alone
echo "in one process: $((SECONDS - began)) s"
python - <<'PYTHON'
import collections
import json

read = lambda path: [json.loads(line) for line in open(path)]
trials = [read(f"{run}/trials.jsonl") for run in ("among", "alone")]
same = [{name: value for name, value in line.items() if name not in ("seconds", "elapsed")} for line in trials[0]]
assert same == [{name: line[name] for name in same[0]} for line in trials[1]], "the trials differ"
results = [json.load(open(f"{run}/results.json"))["test"] for run in ("among", "alone")]
assert results[0] == results[1], "the detectors differ"
trained = collections.Counter(line["worker"].split(":")[0] for line in read("among/workers.jsonl"))
print(f"{len(same)} trials and the test are the same, bit for bit; children by host: {dict(sorted(trained.items()))}")
PYTHON
