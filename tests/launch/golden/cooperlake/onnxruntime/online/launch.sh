#!/bin/sh
# Starts instances of a model, each on its own physical CPU cores of one NUMA node.
# Rendered by optc for cooperlake and onnxruntime; to change it, change `launch:` in the recipe.
set -eu

mode=online
batch=1
model=model.onnx
instances=''  # how many to start; empty: as many as the cores allow
cores=''  # exactly so many per instance; empty: wanted, or fewer if there are fewer
wanted=8  # 0: all cores of a NUMA node
json_threads=8  # thread count that runtime.json states
needed_flags=sse2  # CPU flags that the lowest kernels of the runtime need
title='ONNX Runtime, CPU execution provider'
proc=/proc
sys=/sys

usage() {
    cat <<EOF
usage: launch.sh [--instances N] [--cores N] [--dry-run] [--] COMMAND [ARGUMENT...]

Starts COMMAND once per instance ($mode mode), bound to CPU cores that this process may use.
To share a machine, give each service its own cores: taskset -c 0-7 launch.sh ...

  --instances N   start exactly N instances        (recipe: ${instances:-as many as fit})
  --cores N       exactly N cores per instance     (recipe: ${cores:-not fixed})
  --dry-run       print the instances and start nothing

COMMAND finds in its environment:
  OPTC_MODEL          the model file
  OPTC_RUNTIME_JSON   options for $title; pass them all
  OPTC_THREADS        threads of this instance, as in OPTC_RUNTIME_JSON
  OPTC_BATCH          batch size the recipe plans with
  OPTC_INSTANCE       number of this instance, from 0
  OPTC_INSTANCES      number of instances
  ORT_INTRA_OP_NUM_THREADS   the same number, for sessions made without the options

Its standard input is empty. SIGTERM, SIGINT and SIGHUP end all instances with SIGTERM.
The exit status is the highest of the instances; 1 when nothing could be started, 2 for
wrong usage.
EOF
}

say() {
    printf 'launch.sh: %s\n' "$*" >&2
}

die() {
    say "$@"
    exit 1
}

wrong_usage() {
    say "$@"
    usage >&2
    exit 2
}

positive() {  # $1: option, $2: its value
    case $2 in
        '' | 0* | *[!0-9]*) wrong_usage "$1 needs a positive whole number, not '$2'" ;;
    esac
}

check_flags() {
    present=$(sed -n '/^flags/{s/^[^:]*://p;q;}' "$proc/cpuinfo")
    missing=
    for flag in $needed_flags; do
        case " $present " in
            *" $flag "*) ;;
            *) missing="$missing $flag" ;;
        esac
    done
    [ -z "$missing" ] || die "this CPU lacks the flags$missing that $title needs for this model"
}

# Whole CPUs that cgroup v2 quotas leave to this process; nothing when there is no quota.
cpu_quota() {
    quota=
    group=$(sed -n 's/^0:://p' "$proc/self/cgroup" 2>/dev/null) || group=
    while :; do
        limit=$(cat "$sys/fs/cgroup$group/cpu.max" 2>/dev/null) || limit=max
        if [ "${limit%% *}" != max ]; then  # "QUOTA PERIOD" in microseconds
            whole=$((${limit%% *} / ${limit##* }))
            [ "$whole" -ge 1 ] || whole=1
            if [ -z "$quota" ] || [ "$whole" -lt "$quota" ]; then quota=$whole; fi
        fi
        case $group in '' | /) break ;; esac
        group=${group%/*}
    done
    echo "$quota"
}

# One line "node cpu" for each physical core: its first hardware thread in the CPU mask.
physical_cores() {
    sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' "$proc/self/status" | tr ',' '\n' |
        awk -F- '{ for (cpu = $1 + 0; cpu <= $NF + 0; cpu++) print cpu }' |
        while read -r cpu; do
            folder=$sys/devices/system/cpu/cpu$cpu
            node=0
            for entry in "$folder"/node[0-9]*; do
                [ ! -e "$entry" ] || node=${entry##*/node}
            done
            # cat, because `read` of some shells gets nothing out of sysfs files byte by byte.
            siblings=$(cat "$folder/topology/thread_siblings_list" 2>/dev/null) || siblings=$cpu
            echo "$node $cpu $siblings"
        done | awk '!seen[$3]++ { print $1, $2 }' | sort -k 1,1n -k 2,2n
}

# From lines "node cpu" to one line "threads node cpu,cpu,..." per instance. Nodes take turns, so
# that few instances spread over the memory controllers; no instance crosses a node.
slices() {
    awk -v instances="${instances:-0}" -v exact="${cores:-0}" -v wanted="$wanted" '
        {
            if (!($1 in count)) nodes[++n] = $1
            cpu[$1, ++count[$1]] = $2
            if (count[$1] > largest) largest = count[$1]
        }
        function fit(size,    i, total) {
            for (i = 1; i <= n; i++) total += int(count[nodes[i]] / size)
            return total
        }
        END {
            size = wanted > 0 && wanted < largest ? wanted : largest
            if (exact > 0) size = exact
            else while (size > 1 && fit(size) < instances) size--
            if (size < 1 || fit(size) < (instances > 0 ? instances : 1)) exit 3
            if (instances == 0) instances = fit(size)
            for (turn = 0; turn * size < largest; turn++)
                for (i = 1; i <= n; i++)
                    if ((turn + 1) * size <= count[nodes[i]] && made++ < instances) {
                        list = ""
                        for (k = turn * size + 1; k <= (turn + 1) * size; k++)
                            list = list (list == "" ? "" : ",") cpu[nodes[i], k]
                        print size, nodes[i], list
                    }
        }'
}

end_all() {
    for pid in $pids; do
        kill -TERM "$pid" 2>/dev/null || :
    done
}

# Prints the command that binds to CPUs $2 and to the memory of node $1, once it is seen to work:
# containers often forbid numactl to set the memory policy.
binder() {
    if [ -n "$quota" ]; then
        echo nothing
    elif numactl --physcpubind="$2" --membind="$1" true >/dev/null 2>&1; then
        echo numactl
    elif taskset -c "$2" true >/dev/null 2>&1; then
        echo taskset
    else
        say "neither numactl nor taskset can bind to CPUs $2: not bound"
        echo nothing
    fi
}

# Writes to $1 a copy of runtime.json that states the thread count of this launch.
adapt_options() {
    sed 's/^\( *"intra_op_num_threads": "\{0,1\}\)'"$json_threads"'\("\{0,1\},\{0,1\}\)$/\1'"$threads"'\2/' \
        "$here/runtime.json" >"$1"
    ! cmp -s "$here/runtime.json" "$1" ||
        die "runtime.json does not state intra_op_num_threads $json_threads any more: compile again"
}

dry_run=
while [ $# -gt 0 ]; do
    case $1 in
        --instances | --cores)
            positive "$1" "${2-}"
            if [ "$1" = --cores ]; then cores=$2; else instances=$2; fi
            shift 2
            ;;
        --dry-run)
            dry_run=yes
            shift
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        --)
            shift
            break
            ;;
        -*) wrong_usage "unknown option $1" ;;
        *) break ;;
    esac
done
[ $# -gt 0 ] || [ -n "$dry_run" ] || wrong_usage "no command given"

unset CDPATH
here=$(cd -- "$(dirname -- "$0")" && pwd -P)
model=$(dirname -- "$here")/$model
[ -r "$model" ] || die "there is no model $model"
check_flags

available=$(physical_cores)
total=$(printf '%s' "$available" | grep -c '') || die "cannot read the CPU mask in $proc"
quota=$(cpu_quota)
if [ -n "$quota" ] && [ "$quota" -lt "$total" ]; then
    say "the cgroup leaves $quota of $total cores: the instances are not bound to cores"
    total=$quota
    available=$(awk -v n="$quota" 'BEGIN { for (i = 0; i < n; i++) print 0, "any" }')
else
    quota=
fi
plan=$(printf '%s\n' "$available" | slices) ||
    die "${instances:-1} instance(s) of ${cores:-1} core(s) do not fit: $total core(s) on" \
        "$(printf '%s\n' "$available" | cut -d ' ' -f 1 | uniq | grep -c '') NUMA node(s)," \
        "and no instance crosses a node"
count=$(printf '%s\n' "$plan" | grep -c '')
threads=${plan%% *}

pids=
signalled=
work=
trap '[ -z "$work" ] || rm -rf "$work"' EXIT
trap 'signalled=yes; end_all' TERM INT HUP

options=$here/runtime.json
if [ "$threads" -ne "$json_threads" ] && [ -z "$dry_run" ]; then
    work=$(mktemp -d "${TMPDIR:-/tmp}/optc-launch.XXXXXX")
    options=$work/runtime.json
    adapt_options "$options"
    say "threads per instance: $threads, not the $json_threads of runtime.json; options: $options"
fi
export OPTC_MODEL="$model" OPTC_RUNTIME_JSON="$options" OPTC_THREADS="$threads"
export OPTC_BATCH="$batch" OPTC_INSTANCES="$count" OPTC_INSTANCE=0
export ORT_INTRA_OP_NUM_THREADS="$threads"
while read -r _ node cpus && [ -z "$signalled" ]; do
    how=$(binder "$node" "$cpus")
    if [ -n "$dry_run" ]; then
        echo "instance $OPTC_INSTANCE: threads $threads, node $node, CPUs $cpus, bound by $how"
    else
        case $how in
            numactl) numactl --physcpubind="$cpus" --membind="$node" "$@" & ;;
            taskset) taskset -c "$cpus" "$@" & ;;
            *) "$@" & ;;
        esac
        pids="$pids $!"
    fi
    OPTC_INSTANCE=$((OPTC_INSTANCE + 1))
done <<EOF
$plan
EOF
[ -z "$signalled" ] || end_all  # the signal may have come before the last instance was known

worst=0
for instance in $pids; do
    status=0
    wait "$instance" || status=$?
    # A signal ends `wait` before the instance; 127 means that its status was taken already.
    while [ -n "$signalled" ]; do
        again=0
        wait "$instance" || again=$?
        [ "$again" -ne 127 ] || break
        status=$again
        kill -0 "$instance" 2>/dev/null || break
    done
    [ "$status" -le "$worst" ] || worst=$status
done
exit "$worst"
