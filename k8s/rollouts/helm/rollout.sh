#!/usr/bin/env bash
# A new version in small steps, by plain Helm: rollout.sh step WEIGHT | walk | promote | abort
#
# step WEIGHT  gives the canary that percentage of the clips; the chart's comparison keeps the step
#              or takes it back.
# walk         all of STEPS (0 1 10 50) and 100, each if the one before was kept, then promote. It goes
#              on where it was left, and aborts when a comparison fails or the canary has crashed.
# promote      makes stable what the canary is, without a lost clip, and removes the canary.
# abort        gives every clip back to stable, and removes the canary.
#
# What follows -- are arguments for helm, which say all that the candidate is:
#
#     rollout.sh walk -- --set canary.bundle.registry.reference=oci://registry.example/team/model:2
#
# RELEASE and NAMESPACE are timbre unless they say otherwise, CHART is the chart in this checkout;
# READY_TIMEOUT is what pods may take to be ready. It takes Helm 4, or Helm 3.14 or newer, kubectl, jq
# and bash 4.4 or newer, and ends with 0, or with what the comparison said: 1 failed, as a canary has
# that crashed, 2 inconclusive; 64 is a wrong call, and 3 everything else.
# shellcheck disable=SC2329 # Actions are called by their name.
set -Eeuo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
RELEASE="${RELEASE:-timbre}"
NAMESPACE="${NAMESPACE:-timbre}"
CHART="${CHART:-$(cd "$here/../../.." && pwd)/helm/timbre}"
STEPS="${STEPS:-0 1 10 50}"
READY_TIMEOUT="${READY_TIMEOUT:-10m}"
# A gateway that has a new route finishes what it has begun, and lets go of idle connections.
ROUTE_DRAIN_S="${ROUTE_DRAIN_S:-10}"
ROUTE_TIMEOUT_S="${ROUTE_TIMEOUT_S:-120}"
# A Helm that was killed leaves its change pending for ever; another has ended by then.
PENDING_TIMEOUT_S="${PENDING_TIMEOUT_S:-600}"
# Pods that a canary had before are looked at for so long once more of them didn't get ready.
RECOVER_TIMEOUT_S="${RECOVER_TIMEOUT_S:-60}"

FAILED=1 INCONCLUSIVE=2 OTHER=3
# How a step ended. It is no return code: bash would go on after errors where somebody looks at one.
outcome=0

say() { printf '%s\n' "$*"; }
die() {
    say "$1" >&2
    exit "${2:-$OTHER}"
}

((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)) ||
    die "This is bash $BASH_VERSION, and bash 4.4 or newer is needed: macOS has an older one, and Homebrew a newer."
# What could not be read is never taken for nothing, and no error for the candidate's: theirs is often 1.
shopt -s inherit_errexit
broken="That is an error of helm, kubectl or jq, and no verdict: the same command goes on from here."
trap 'if [ "$BASH_SUBSHELL" = 0 ]; then die "$broken"; else exit "$OTHER"; fi' ERR

kube() { kubectl --namespace "$NAMESPACE" "$@"; }

# The release's values as they are now, with the chart's own and without.
read_values() {
    all="$(helm get values "$RELEASE" --namespace "$NAMESPACE" --all --output json | jq --exit-status .)" || die "$broken"
    given="$(helm get values "$RELEASE" --namespace "$NAMESPACE" --output json | jq --exit-status '. // {}')" || die "$broken"
}
value() { jq --raw-output "$1" <<<"$all"; }

upgrade() {
    local code=0
    helm upgrade "$RELEASE" "$CHART" --namespace "$NAMESPACE" "$@" >/dev/null || code=$?
    read_values
    return "$code"
}

# A change that Helm takes back where its pods don't get ready.
change() { upgrade --wait "$back" --timeout "$READY_TIMEOUT" --reset-then-reuse-values --no-hooks "$@"; }

# A change of the route, which waits for nobody: not for a canary that crashes while clips leave it.
move() { upgrade --reset-then-reuse-values --no-hooks "$@"; }

# A change that has to have a verdict: Helm takes its revision for deployed if the comparison passes,
# and for failed or pending otherwise. Helm itself would take it back only to wait for all pods to be
# ready, and a canary that crashes never is. Its timeout is that of the Job, which ends itself before.
judged() {
    local timeout
    timeout="$(value '.compare.waitSeconds + .compare.goldenSeconds + 120')s"
    upgrade --timeout "$timeout" --reset-then-reuse-values "$@" && return
    back_to_deployed
    return 1
}

# What Helm says of the release's revisions, the newest last.
revisions() { helm history "$RELEASE" --namespace "$NAMESPACE" --output json | jq --raw-output "sort_by(.revision) | $1"; }

# Back to the newest revision that is deployed: the only ones of which it is known that the weight in
# them was judged.
back_to_deployed() {
    local revision stuck="It could not be taken back: Helm's message is above. The canary may have clips by a weight that nobody judged: the same command, or abort, takes it back first."
    revision="$(revisions 'map(select(.status == "deployed"))[-1].revision // ""')" || die "$stuck"
    [ -n "$revision" ] ||
        die "Helm has deployed no revision of $RELEASE that there is a way back to: helm --namespace $NAMESPACE history $RELEASE shows them."
    helm rollback "$RELEASE" "$revision" --namespace "$NAMESPACE" --no-hooks >/dev/null || die "$stuck"
    read_values
}

is_pending() {
    local status
    status="$(revisions '.[-1].status')" || die "$broken"
    [[ "$status" = pending-* ]]
}
compares() {
    local active
    active="$(kube get job "$name-compare" --output jsonpath='{.status.active}' --ignore-not-found)" || die "$broken"
    [ -n "$active" ]
}

# What was cut off is taken back, so that no weight is taken for judged by being there. Somebody's Helm
# may still be at it, and has its comparison ended first; an abort doesn't wait.
settle() {
    local left="$PENDING_TIMEOUT_S" status
    if [ "$action" != abort ] && is_pending; then
        say "Helm is changing the release, or was cut off while it was: it has $left s to end, and as long as its comparison takes."
        while is_pending; do
            if compares; then left="$PENDING_TIMEOUT_S"; fi
            [ "$left" -gt 0 ] || break
            sleep 1
            left=$((left - 1))
        done
    fi
    status="$(revisions '.[-1].status')"
    if [ "$status" != deployed ]; then
        say "The last change of the release was not done: it is taken back."
        back_to_deployed
    fi
    read_values
}

# A change to exactly these values, and what helm's arguments lay over them. Of no values Helm would
# make the chart's own.
replace() {
    local values="$1"
    shift
    jq --exit-status 'type == "object"' <<<"$values" >/dev/null || die "$broken"
    upgrade --wait "$back" --timeout "$READY_TIMEOUT" --reset-values --no-hooks --values - "$@" <<<"$values"
}

# What was given, without a candidate: nothing of the canary is left but how it is compared and routed.
without_candidate() { jq '.canary |= ((. // {}) | del(.image, .bundle, .settings, .replicas, .baseline.replicas))' <<<"$given"; }

# What helm's arguments would make of that.
asked() {
    helm upgrade "$RELEASE" "$CHART" --namespace "$NAMESPACE" --reset-values --values - \
        --dry-run=client --output json "$@" <<<"$(without_candidate)" | jq '.config // {}'
}

# Whether helm's arguments say what a candidate is.
names_candidate() {
    local wanted
    wanted="$(asked "$@")" || die "$broken"
    jq --exit-status '.canary | any(.image, .bundle, .settings; . != null and . != {})' <<<"$wanted" >/dev/null
}

prepare() {
    local tool version
    for tool in helm kubectl jq; do
        command -v "$tool" >/dev/null 2>&1 || die "$tool is missing."
    done
    helm status "$RELEASE" --namespace "$NAMESPACE" >/dev/null 2>&1 ||
        die "There is no release $RELEASE in $NAMESPACE: RELEASE and NAMESPACE name it."
    read_values
    [ "$(value .rollout.engine)" = helm ] || die "$(value .rollout.engine) moves this release's clips: rollout.engine says so."
    version="$(helm version --template '{{.Version}}')"
    case "$version" in
        v3.*) back=--atomic ;;
        *) back=--rollback-on-failure ;;
    esac
    name="$(kube get deployments --output jsonpath='{.items[0].metadata.name}' \
        --selector "app.kubernetes.io/instance=$RELEASE,app.kubernetes.io/component=server,track=stable")"
    settle
}

is_enabled() { [ "$(value .canary.enabled)" = true ]; }
is_routed() { [ "$(value .httpRoute.enabled)" = true ]; }
is_scaled() { [ "$(value '.autoscaling.enabled or .keda.enabled')" = true ]; }

# Percent that the canary has now.
weight() { value 'if .canary.enabled then .canary.weight else 0 end'; }

# Pods that a track's Deployment has been asked for.
pods() { kube get deployment "$1" --output jsonpath='{.spec.replicas}' --ignore-not-found; }

# Pods that all clips need: as many as stable was given or, where they follow the clips, all that have
# any. A track without clips has pods for none, be they the least that its autoscaler leaves it.
needed() {
    if ! is_scaled; then
        value .replicaCount
        return
    fi
    local at beside track sum=0 found
    at="$(weight)"
    beside="$(value "if .canary.baseline.enabled and $at <= 50 then $at else 0 end")"
    local tracks=()
    [ "$at" = 0 ] || tracks+=("$name-canary")
    [ "$beside" = 0 ] || tracks+=("$name-baseline")
    [ "$((at + beside))" = 100 ] || tracks+=("$name")
    for track in "${tracks[@]}"; do
        found="$(pods "$track")"
        sum=$((sum + ${found:-0}))
    done
    value "if .autoscaling.enabled then .autoscaling else .keda end | [([$sum, .minReplicas] | max), .maxReplicas] | min"
}

# Gives a track's Deployment so many pods, if it has fewer, and waits for them. An autoscaler does so
# only after a while, which Helm doesn't wait for.
grow() {
    local now
    now="$(pods "$1")" || die "$broken"
    [ -n "$now" ] || return 0
    if [ "$now" -lt "$2" ]; then
        kube scale deployment "$1" --replicas "$2" >/dev/null || die "$broken"
    fi
    kube rollout status deployment "$1" --timeout "$READY_TIMEOUT" >/dev/null
}

# Looks each second whether something is so, for so many at most.
within() {
    local left="$1"
    shift
    until "$@"; do
        [ "$left" -gt 0 ] || return 1
        sleep 1
        left=$((left - 1))
    done
}

# Whether the canary has pods that are ready, and none that runs and isn't: such a one has crashed,
# where one that doesn't run may wait for a node.
is_up() {
    local found
    found="$(kube get pods --output json \
        --selector "app.kubernetes.io/instance=$RELEASE,app.kubernetes.io/component=server,track=canary")" || die "$broken"
    jq --exit-status '
        [.items[] | select(.metadata.deletionTimestamp | not) | .status
            | {phase, ready: any(.conditions[]?; .type == "Ready" and .status == "True")}]
        | any(.ready) and all(.ready or .phase != "Running")' <<<"$found" >/dev/null
}

# Whether every gateway of the route has seen it as it now is.
is_seen() {
    # shellcheck disable=SC2016 # It is jq's variable.
    kube get httproute "$name" --output json | jq --exit-status '
        .metadata.generation as $now
        | [.status.parents[]?.conditions[]? | select(.type == "Accepted")]
        | length > 0 and all(.observedGeneration == $now and .status == "True")' >/dev/null
}

wait_for_route() {
    is_routed || return 0
    within "$ROUTE_TIMEOUT_S" is_seen ||
        die "No gateway has taken the route in $ROUTE_TIMEOUT_S s: kubectl --namespace $NAMESPACE describe httproute $name. The canary keeps its pods; the same command goes on from here."
    sleep "$ROUTE_DRAIN_S"
}

# The Job that compares, as one that is made anew has another.
job() { kube get job "$name-compare" --output jsonpath='{.metadata.uid}' --ignore-not-found; }

# How the comparison ended: its exit code.
verdict() {
    kube get pods --selector "app.kubernetes.io/instance=$RELEASE,app.kubernetes.io/component=compare" \
        --sort-by .metadata.creationTimestamp \
        --output jsonpath='{.items[-1:].status.containerStatuses[0].state.terminated.exitCode}'
}

# One step. How it ended is in outcome.
step() {
    local to="$1" from count share now before after ready=true kept=false anew=false code=""
    shift
    outcome="$OTHER"
    if [ "$#" = 0 ] && is_enabled; then kept=true; fi
    if ! [[ "$to" =~ ^[0-9]{1,3}$ ]] || [ "$to" -gt 100 ]; then
        die "A weight is a percentage, 0 to 100, and not $to." 64
    fi
    from="$(weight)"
    if [ "$#" -gt 0 ] && [ "$from" -gt 0 ]; then
        die "A canary has $from% of the clips: promote or abort it before another candidate is tried."
    fi
    if [ "$to" -gt 0 ] && ! is_routed; then
        die "Without httpRoute nothing can be split: step 0, then promote."
    fi
    if [ "$#" -gt 0 ] && names_candidate "$@"; then anew=true; fi
    [ "$(value .compare.enabled)" = true ] || say "compare is disabled: nobody judges this step."
    # Pods first, clips then. The baseline grows for as long as it gets as many.
    count="$(needed)"
    share=$(((count * to + 99) / 100))
    [ "$share" -gt 0 ] || share=1
    now="$(pods "$name-canary")"
    if [ "$#" -gt 0 ] || ! is_enabled || [ "${now:-0}" -lt "$share" ]; then
        if [ "$to" -gt 50 ]; then
            now="$(pods "$name-baseline")"
            set -- "$@" --set "canary.baseline.replicas=${now:-1}"
        fi
        say "Pods for the canary: $share."
        set -- "$@" --set canary.enabled=true --set "canary.weight=$from" --set "canary.replicas=$share"
        # Nothing of a candidate that was tried before is part of another.
        if [ "$anew" = true ]; then set -- replace "$(without_candidate)" "$@"; else set -- change "$@"; fi
        if ! "$@"; then
            say "They were not ready in $READY_TIMEOUT, and are gone again: Helm's message is above."
            ready=false
        fi
    fi
    if [ "$ready" = true ] && is_scaled && ! { grow "$name-canary" "$share" && { [ "$to" -gt 50 ] || grow "$name-baseline" "$share"; }; }; then
        say "They were not ready in $READY_TIMEOUT: kubectl's message is above. They stay, and the same command looks at them again."
        ready=false
    fi
    if [ "$ready" = false ]; then
        [ "$kept" = true ] || return 0
        # That nodes have no room for more is no fault of the candidate.
        if within "$RECOVER_TIMEOUT_S" is_up; then
            say "Those that the canary had are ready, and it still has $from%."
            return
        fi
        say "Those that the canary had are not ready either, so it has failed; it still has $from%: kubectl --namespace $NAMESPACE describe pods --selector track=canary"
        outcome="$FAILED"
        return
    fi
    before="$(job)"
    say "The canary gets $to% of the clips, if it is as good as stable."
    if judged --set "canary.weight=$to"; then
        say "It has $to%."
        outcome=0
        return
    fi
    after="$(job)"
    if [ "$after" != "$before" ]; then code="$(verdict)"; fi
    say "That was taken back: it has $(weight)%."
    case "$code" in
        "$FAILED") say "The comparison failed: kubectl --namespace $NAMESPACE logs job/$name-compare" ;;
        "$INCONCLUSIVE") say "The comparison was inconclusive: kubectl --namespace $NAMESPACE logs job/$name-compare says what is missing. The same command tries again." ;;
        *)
            say "There was no verdict: Helm's message is above."
            return
            ;;
    esac
    outcome="$code"
}

# Clips go back to stable, which first has pods for all of them.
return_to_stable() {
    local count now
    count="$(needed)"
    now="$(pods "$name")"
    if is_scaled && [ "$now" -lt "$count" ]; then
        say "Pods for stable: $count."
        grow "$name" "$count"
    fi
    if [ "$(weight)" -gt 0 ]; then
        move --set canary.weight=0
        say "Stable gets every clip."
    fi
    wait_for_route
}

remove() {
    replace "$(without_candidate | jq '.canary.enabled = false | .canary.weight = 0
        | if .canary.baseline then .canary.baseline.enabled = true else . end')"
    say "The canary is gone."
}

abort() {
    if ! is_enabled; then
        say "There is no canary."
        return
    fi
    return_to_stable
    remove
}

# What was given, with stable as the canary is: as the chart lays the one over the other.
promoted() {
    jq '
        def set: . != null and . != "";
        .canary as $new
        | ($new.image // {}) as $image
        | if $image.repository | set then .image.repository = $image.repository else . end
        | if ($image.tag | set) or ($image.digest | set)
          then .image.tag = ($image.tag // "") | .image.digest = ($image.digest // "") else . end
        | if ($new.bundle // {}) != {}
          then .bundle = (((.bundle // {}) | .digest = "") * $new.bundle) else . end
        | if ($new.settings // {}) != {} then .settings = ((.settings // {}) + $new.settings) else . end' <<<"$given"
}

promote() {
    is_enabled || die "There is no canary to promote: step 0 makes one."
    local wanted
    wanted="$(promoted)"
    if [ "$(jq --compact-output --sort-keys . <<<"$wanted")" != "$(jq --compact-output --sort-keys . <<<"$given")" ]; then
        if is_routed && [ "$(weight)" -lt 100 ]; then
            step 100
            [ "$outcome" = 0 ] || return 0
        fi
        # No clip is on its way to it any more, and its pods make room for stable's.
        wait_for_route
        change --set canary.baseline.enabled=false ||
            die "The baseline is still there: Helm's message is above. The canary has every clip; promote tries again."
        say "Stable becomes what the canary is."
        wanted="$(promoted)" # of the values as they are by now: the canary has every clip
        replace "$wanted" ||
            die "It did not, and was taken back: Helm's message is above. The canary has every clip; promote tries again."
    fi
    return_to_stable
    remove
}

# Whether helm's arguments say all that the canary already is, and nothing else.
same() {
    local now wanted
    now="$(jq 'del(.canary.replicas, .canary.baseline.replicas)' <<<"$given" | jq --compact-output --sort-keys .)"
    wanted="$(asked "$@" | jq --compact-output --sort-keys .)" || die "$broken"
    [ "$wanted" = "$now" ]
}

walk() {
    local to
    # The command that began goes on; another candidate is told to wait by the step.
    if [ "$#" -gt 0 ] && [ "$(weight)" -gt 0 ] && same "$@"; then set --; fi
    for to in $STEPS 100; do
        # A weight that the canary has was judged, as settle sees to. At 0 it may never have been.
        if [ "$#" = 0 ] && [ "$(weight)" -gt 0 ] && [ "$to" -le "$(weight)" ]; then continue; fi
        if [ "$to" -gt 0 ] && ! is_routed; then continue; fi
        step "$to" "$@"
        # The candidate is in the release's values from here on.
        set --
        if [ "$outcome" = "$FAILED" ]; then abort; fi
        [ "$outcome" = 0 ] || return 0
    done
    promote
}

usage="rollout.sh step WEIGHT | walk | promote | abort [-- HELM'S ARGUMENTS]"
action="${1:-}"
[ "$#" = 0 ] || shift
arguments=()
if [ "$action" = step ]; then
    [ "$#" -gt 0 ] || die "$usage" 64
    arguments+=("$1")
    shift
fi
if [ "${1:-}" = -- ]; then shift; elif [ "$#" -gt 0 ]; then die "$usage" 64; fi
case "$action" in
    step | walk) ;;
    promote | abort) [ "$#" = 0 ] || die "$action takes the candidate that is there, and no arguments for helm." 64 ;;
    *) die "$usage" 64 ;;
esac
prepare
"$action" "${arguments[@]}" "$@"
exit "$outcome"
