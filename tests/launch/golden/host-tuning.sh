#!/bin/sh
# Sets the CPU governor to performance and switches deep idle states off: steadier latency for more
# power. Both last until the next boot. Rendered by optc.
# Sources: Intel tuning guides for 3rd Gen (Ice Lake) and 4th Gen Xeon; cpupower-frequency-set(1) and
# cpupower-idle-set(1).
set -eu

sys=/sys

usage() {
    cat <<EOF
usage: host-tuning.sh [--dry-run]

Sets the governor of all CPUs to performance, and disables the idle states from number 2 on
(C1E and C6) where the driver is intel_idle. Prints the commands that undo it. Needs root and
cpupower. Virtual machines usually have neither a cpufreq driver nor idle states.

  --dry-run   print the commands and change nothing; needs no root
EOF
}

say() {
    printf 'host-tuning.sh: %s\n' "$*" >&2
}

run() {
    echo "$*"
    [ -n "$dry_run" ] || "$@" >/dev/null
}

# One line "governor CPUs" per governor in use.
governors() {
    for policy in "$sys"/devices/system/cpu/cpufreq/policy[0-9]*; do
        [ -r "$policy/scaling_governor" ] || continue
        echo "$(cat "$policy/scaling_governor") $(tr ' ' ',' <"$policy/affected_cpus")"
    done | awk '
        { cpus[$1] = cpus[$1] (cpus[$1] == "" ? "" : ",") $2 }
        END { for (name in cpus) print name, cpus[name] }' | sort
}

set_governor() {
    before=$(governors)
    if [ -z "$before" ]; then
        say "no cpufreq driver: the governor is left to the firmware or the hypervisor"
        return 0
    fi
    if ! grep -qw performance "$sys"/devices/system/cpu/cpufreq/policy*/scaling_available_governors; then
        say "the cpufreq driver offers no governor performance: left as it is"
        return 0
    fi
    found=yes
    others=$(echo "$before" | grep -v '^performance ') || return 0
    undo=$(echo "$others" | sed 's/^\([^ ]*\) \(.*\)$/cpupower -c \2 frequency-set -g \1/')
    run cpupower frequency-set -g performance
}

# cpupower takes one state at a time: of "-d 2,3" it would disable state 2 only.
set_idle_states() {
    driver=$(cat "$sys/devices/system/cpu/cpuidle/current_driver" 2>/dev/null) || driver=none
    if [ "$driver" != intel_idle ]; then
        say "idle driver $driver: its states are numbered in another way, they are left as they are"
        return 0
    fi
    found=yes
    for state in "$sys"/devices/system/cpu/cpu0/cpuidle/state[2-9]*; do
        [ -r "$state/disable" ] || continue
        [ "$(cat "$state/disable")" = 0 ] || continue
        index=${state##*/state}
        undo="${undo:+$undo
}cpupower idle-set -e $index"
        run cpupower idle-set -d "$index"
    done
}

dry_run=
case $#${1-} in
    0) ;;
    1--dry-run) dry_run=yes ;;
    1-h | 1--help)
        usage
        exit 0
        ;;
    *)
        usage >&2
        exit 2
        ;;
esac
if [ -z "$dry_run" ] && [ "$(id -u)" -ne 0 ]; then
    say "only root may change this: run it with sudo, or with --dry-run to see the commands"
    exit 1
fi
if ! command -v cpupower >/dev/null; then
    say "there is no cpupower: install linux-cpupower (Debian), linux-tools-common (Ubuntu) or" \
        "kernel-tools (Red Hat)"
    exit 1
fi

undo=
found=
trap '[ -z "$undo" ] || printf "\nto undo:\n%s\n" "$undo"' EXIT
set_governor
set_idle_states
if [ -z "$found" ]; then
    say "nothing can be set on this machine"
    exit 1
fi
[ -n "$undo" ] || echo 'nothing to change'
