#!/bin/sh
# Starts instances of a model, each on its own physical CPU cores of one NUMA node.
# Rendered by optc; to change it, change `launch:` in the recipe.
set -eu

mode=latency
batch=1
model=model.xml
instances=''  # how many to start; empty: as many as the cores allow
cores=''  # exactly so many per instance; empty: wanted, or fewer if there are fewer
wanted=4  # 0: one instance per NUMA node, on as many cores as every one can have
most=4  # an instance grows up to this size where cores would stay idle
json_threads=4  # thread count that runtime.json states
tile_flags=''  # CPU flags of the AMX tiles that this model was compiled for
allocator=system
title='OpenVINO, CPU plugin'
proc=/proc
sys=/sys
libraries='/usr/lib/x86_64-linux-gnu /usr/lib64 /usr/lib /usr/local/lib64 /usr/local/lib'

usage() {
    cat <<EOF
usage: launch.sh [OPTION...] [--] COMMAND [ARGUMENT...]

Starts COMMAND once per instance ($mode mode), bound to CPU cores that this process may use.

  --instances N   start exactly N instances        (recipe: ${instances:-as many as fit})
  --cores N       exactly N cores per instance     (recipe: ${cores:-not fixed})
  --cpus LIST     use only these CPUs, e.g. 0-7,16: to share a machine with other services
  --instance K/N  start one instance, which is told that it is number K (from 0) of N
  --allocator A   system, jemalloc or tcmalloc     (recipe: $allocator)
  --dry-run       print the instances and start nothing
  --topology      print the cores of this machine, to stand under \`launch:\` in the recipe

COMMAND finds in its environment:
  OPTC_MODEL          the model file
  OPTC_RUNTIME_JSON   options for $title; pass them all
  OPTC_THREADS        threads of this instance, as in OPTC_RUNTIME_JSON
  OPTC_BATCH          batch size the recipe plans with
  OPTC_INSTANCE       number of this instance, from 0
  OPTC_INSTANCES      number of instances

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

cpu_list() {  # $1: option, $2: its value
    case $2 in
        '' | *[!0-9,-]* | [,-]* | *[,-] | *[,-][,-]*)
            wrong_usage "$1 needs CPU numbers such as 0-7,16, not '$2'" ;;
    esac
}

one_of_several() {  # $1: option, $2: its value
    case $2 in
        *[!0-9/]* | */*/* | /* | */) ;;
        */*) [ "${2%/*}" -ge "${2#*/}" ] || return 0 ;;
    esac
    wrong_usage "$1 needs a number and a count above it, such as 0/4, not '$2'"
}

has_flag() {
    case " $present " in
        *" $1 "*) ;;
        *) return 1 ;;
    esac
}

need() {  # $1: flags of which the CPU must have one; $2: why
    for flag in $1; do
        ! has_flag "$flag" || return 0
    done
    die "this CPU has no $(echo "$1" | sed 's/ / and no /g'): $2"
}

# Whether a process may use AMX: it has to ask (arch_prctl ARCH_REQ_XCOMP_PERM for component 18).
may_use_tiles() {
    status=0
    perl -e 'exit(syscall(158, 0x1023, 18) ? 3 : 0)' 2>/dev/null || status=$?
    [ "$status" -eq 0 ] || [ "$status" -eq 3 ] || return 0  # no perl: the kernel shows the flags
    return "$status"
}

check_tiles() {
    for flag in $tile_flags; do
        has_flag "$flag" && continue
        say "this CPU shows no $flag: the model runs, but slower than on AMX. Usual reasons:" \
            "another CPU, Linux before 5.16 (this is $(uname -r)), the hypervisor, the BIOS"
        return 0
    done
    [ -z "$tile_flags" ] || may_use_tiles ||
        say "the kernel refuses the permission to use AMX: the model runs, but slower." \
            "Usual reasons: Linux before 5.16 (this is $(uname -r)), a sandbox"
}

expand() {  # from 0-2,8 to one number per line
    tr ',' '\n' | awk -F- 'NF { for (cpu = $1 + 0; cpu <= $NF + 0; cpu++) print cpu }'
}

# The CPUs of this process, one per line; with --cpus those, and failure when one is not among them.
usable_cpus() {
    mask=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' "$proc/self/status")
    {
        echo "$mask" | expand
        echo "$cpus" | expand | sed 's/^/wanted /'
    } | awk -v all="$cpus" '
        NF == 1 { allowed[$1]; if (all == "") print $1; next }
        $2 in allowed { print $2; next }
        { exit 4 }'
}

# From CPUs to one line "node cpu siblings" per physical core: its first usable hardware thread.
physical_cores() {
    while read -r cpu; do
        folder=$sys/devices/system/cpu/cpu$cpu
        node=0
        for entry in "$folder"/node[0-9]*; do
            [ ! -e "$entry" ] || node=${entry##*/node}
        done
        # cat, because `read` of some shells gets nothing out of sysfs files byte by byte.
        siblings=$(cat "$folder/topology/thread_siblings_list" 2>/dev/null) || siblings=$cpu
        echo "$node $cpu $siblings"
    done | awk '!seen[$3]++' | sort -k 1,1n -k 2,2n
}

# From "node cpu siblings" lines to `topology:` of a recipe.
print_topology() {
    echo 'topology:'
    echo '  nodes:'
    awk '
        function add(list, cpu,    run, n) {  # a CPU number at the end of a list such as 0-3,8
            if (list == "") return cpu
            n = split(list, run, /[,-]/)
            if (cpu != run[n] + 1) return list "," cpu
            return (list ~ /-[0-9]*$/ ? substr(list, 1, length(list) - length(run[n]) - 1) : list) "-" cpu
        }
        {
            if (!($1 in cores)) nodes[++n] = $1
            cores[$1] = add(cores[$1], $2)
            parts = split($3, part, ",")
            for (i = 1; i <= parts; i++) {
                split(part[i] "-" part[i], ends, "-")
                for (cpu = ends[1] + 0; cpu <= ends[2] + 0; cpu++)
                    if (cpu != $2) siblings[$1] = add(siblings[$1], cpu)
            }
        }
        END {
            for (i = 1; i <= n; i++) {
                line = "    - {node: " nodes[i] ", cores: \"" cores[nodes[i]] "\""
                if (siblings[nodes[i]] != "") line = line ", siblings: \"" siblings[nodes[i]] "\""
                print line "}"
            }
        }'
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

# From lines "node cpu" to one line "threads node cpu,cpu,..." per instance. Nodes take turns, so
# that few instances spread over the memory controllers; no instance crosses a node.
slices() {
    awk -v instances="${instances:-0}" -v exact="${cores:-0}" -v wanted="$wanted" -v most="$most" '
        {
            if (!($1 in count)) nodes[++n] = $1
            cpu[$1, ++count[$1]] = $2
            if (count[$1] > largest) largest = count[$1]
        }
        function fit(size,    i, total) {
            for (i = 1; i <= n; i++) total += int(count[nodes[i]] / size)
            return total
        }
        # The size that uses most cores with one instance per node.
        function even(    size, i, used, best) {
            for (size = 1; size <= largest; size++) {
                for (i = used = 0; i++ < n;) if (count[nodes[i]] >= size) used += size
                if (used >= best) { best = used; chosen = size }
            }
            return chosen
        }
        END {
            least = instances > 0 ? instances : 1
            if (exact > 0) size = exact
            else {
                size = wanted > 0 && wanted <= largest ? wanted : even()
                while (size > 1 && fit(size) < least) size--
                if (instances == 0) least = fit(size)
                while (size < most && fit(size + 1) >= least) size++
            }
            if (size < 1 || fit(size) < least || least < 1) exit 3
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

# Prints the path of the allocator's library, once it is seen to load: the loader only complains
# about one that is missing or broken, and starts the program without.
find_allocator() {
    case $allocator in
        jemalloc) names=libjemalloc.so.2 ;;
        *) names='libtcmalloc_minimal.so.4 libtcmalloc.so.4' ;;
    esac
    for folder in $libraries; do
        for name in $names; do
            [ -r "$folder/$name" ] || continue
            complaint=$(LD_PRELOAD="$folder/$name" MALLOC_CONF="$malloc_conf,abort_conf:true" \
                sh -c : 2>&1) || complaint=failed
            if [ -z "$complaint" ]; then
                echo "$folder/$name"
                return 0
            fi
        done
    done
    return 1
}

load_allocator() {
    malloc_conf=${MALLOC_CONF:-oversize_threshold:1,background_thread:true,metadata_thp:auto}
    library=$(find_allocator) ||
        die "no $allocator that can be loaded in $libraries: install it, or use --allocator system"
    export LD_PRELOAD="$library${LD_PRELOAD:+:$LD_PRELOAD}"
    [ "$allocator" != jemalloc ] || export MALLOC_CONF="$malloc_conf"
}

# Writes to $1 a copy of runtime.json that states the thread count of this launch.
adapt_options() {
    sed 's/^\( *"INFERENCE_NUM_THREADS": "\{0,1\}\)'"$json_threads"'\("\{0,1\},\{0,1\}\)$/\1'"$threads"'\2/' \
        "$here/runtime.json" >"$1"
    ! cmp -s "$here/runtime.json" "$1" ||
        die "runtime.json does not state INFERENCE_NUM_THREADS $json_threads any more: compile again"
}

cpus=
number=0
numbers=
dry_run=
topology=
while [ $# -gt 0 ]; do
    case $1 in
        --instances | --cores)
            positive "$1" "${2-}"
            if [ "$1" = --cores ]; then cores=$2; else instances=$2; fi
            shift 2
            ;;
        --cpus)
            cpu_list "$1" "${2-}"
            cpus=$2
            shift 2
            ;;
        --instance)
            one_of_several "$1" "${2-}"
            instances=1
            number=${2%/*}
            numbers=${2#*/}
            shift 2
            ;;
        --allocator)
            case ${2-} in
                system | jemalloc | tcmalloc) allocator=$2 ;;
                *) wrong_usage "there is no allocator '${2-}'" ;;
            esac
            shift 2
            ;;
        --dry-run)
            dry_run=yes
            shift
            ;;
        --topology)
            topology=yes
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
[ $# -gt 0 ] || [ -n "$dry_run$topology" ] || wrong_usage "no command given"

usable=$(usable_cpus) || die "this process may not use all of the CPUs $cpus; it may use $(
    sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' "$proc/self/status")"
[ -n "$usable" ] || die "cannot read the CPU mask in $proc"
available=$(echo "$usable" | physical_cores)
if [ -n "$topology" ]; then
    echo "$available" | print_topology
    exit 0
fi

unset CDPATH
here=$(cd -- "$(dirname -- "$0")" && pwd -P)
model=$(dirname -- "$here")/$model
[ -r "$model" ] || die "there is no model $model"
present=$(sed -n '/^flags/{s/^[^:]*://p;q;}' "$proc/cpuinfo")
need sse4_1 'the fp32 kernels of OpenVINO, CPU plugin use it'
check_tiles

total=$(echo "$available" | grep -c '')
quota=$(cpu_quota)
if [ -n "$quota" ] && [ "$quota" -lt "$total" ]; then
    say "the cgroup leaves $quota of $total cores: the instances are not bound to cores"
    total=$quota
    available=$(awk -v n="$quota" 'BEGIN { for (i = 0; i < n; i++) print 0, "any" }')
else
    quota=
fi
plan=$(echo "$available" | slices) ||
    die "${instances:-1} instance(s) of ${cores:-1} core(s) do not fit: $total core(s) on" \
        "$(echo "$available" | cut -d ' ' -f 1 | uniq | grep -c '') NUMA node(s)," \
        "and no instance crosses a node"
count=$(echo "$plan" | grep -c '')
threads=${plan%% *}
[ "$allocator" = system ] || load_allocator

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
export OPTC_BATCH="$batch" OPTC_INSTANCES="${numbers:-$count}" OPTC_INSTANCE="$number"
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
