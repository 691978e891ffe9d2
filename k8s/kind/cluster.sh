#!/usr/bin/env bash
# A cluster on a laptop, by kind: cluster.sh up | deploy | down. `make kind-up`, `make deploy` and
# `make kind-down` call it.
#
# up      makes the cluster, unless it is there, and installs what Timbre needs around it;
#         MONITORING=yes adds Prometheus and the adapter that autoscalers ask for its figures,
#         ENGINES=yes Flagger and Argo Rollouts, of which a release may take one to move its clips.
# deploy  builds the image and installs the chart with it; ARCHIVE names a docker archive of an
#         image that is built already.
# down    deletes the cluster and all that is in it.
#
# Each command to a cluster names this one: whichever kubectl is set to is left alone.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"

# The cluster's name is in cluster.yaml too, and the ports that are mapped to this machine.
CLUSTER=timbre
URL=http://localhost:8080
PROMETHEUS=http://localhost:9090

# Traefik 3.7 implements this version of the Gateway API.
GATEWAY_API=v1.5.1
TRAEFIK_CHART=41.6.1
METRICS_SERVER_CHART=3.13.0
FLAGGER_CHART=1.36.1
ARGO_ROLLOUTS=v1.10.1

on_cluster() { kubectl --context "kind-$CLUSTER" "$@"; }
install() { helm upgrade --install --kube-context "kind-$CLUSTER" --wait --timeout 10m "$@"; }

# Say all that is missing at once, a sentence each.
need() {
    local tool missing=0
    for tool in "$@"; do
        command -v "$tool" >/dev/null 2>&1 && continue
        missing=1
        case "$tool" in
            kind) echo "kind is missing, which makes the cluster: https://kind.sigs.k8s.io/docs/user/quick-start says how to install it." ;;
            kubectl) echo "kubectl is missing, which talks to the cluster: https://kubernetes.io/docs/tasks/tools says how to install it." ;;
            helm) echo "helm is missing, which installs charts: https://helm.sh/docs/intro/install says how to install it." ;;
        esac >&2
    done
    [ "$missing" = 0 ] || exit 1
}

# kind takes docker unless it is told otherwise.
need_engine() {
    if docker info >/dev/null 2>&1; then return; fi
    if podman info >/dev/null 2>&1; then
        export KIND_EXPERIMENTAL_PROVIDER=podman
        return
    fi
    echo "A cluster by kind runs in docker or podman, and neither runs here: start it, or install one from https://docs.docker.com/get-started/get-docker." >&2
    exit 1
}

is_there() { kind get clusters 2>/dev/null | grep -qx "$CLUSTER"; }

up() {
    need kind kubectl helm
    need_engine
    is_there || kind create cluster --config "$here/cluster.yaml" --wait 2m
    # On the server's side: these definitions are longer than the annotation that a client would
    # keep them in.
    on_cluster apply --server-side --filename \
        "https://github.com/kubernetes-sigs/gateway-api/releases/download/$GATEWAY_API/standard-install.yaml"
    install traefik traefik --repo https://traefik.github.io/charts --version "$TRAEFIK_CHART" \
        --namespace traefik --create-namespace --values "$here/traefik.yaml"
    install metrics-server metrics-server --repo https://kubernetes-sigs.github.io/metrics-server \
        --version "$METRICS_SERVER_CHART" --namespace kube-system --values "$here/metrics-server.yaml"
    on_cluster apply --kustomize "$root/k8s/namespace"
    on_cluster apply --kustomize "$here/gateway"
    on_cluster wait --for condition=Programmed --namespace gateway gateway/timbre --timeout 2m
    if [ "${MONITORING:-}" = yes ]; then
        on_cluster apply --kustomize "$here/monitoring"
        on_cluster apply --kustomize "$root/k8s/metrics-adapter"
        on_cluster rollout status --namespace monitoring --timeout 5m deployment/prometheus
        on_cluster rollout status --namespace monitoring --timeout 5m deployment/metrics-adapter
        printf '\nPrometheus is at %s.' "$PROMETHEUS"
    fi
    if [ "${ENGINES:-}" = yes ]; then
        install flagger flagger --repo https://flagger.app --version "$FLAGGER_CHART" \
            --namespace flagger --create-namespace --values "$here/flagger.yaml"
        on_cluster apply --filename "$here/argo-rollouts.yaml"
        on_cluster apply --server-side --namespace argo-rollouts --filename \
            "https://github.com/argoproj/argo-rollouts/releases/download/$ARGO_ROLLOUTS/install.yaml"
        on_cluster rollout status --namespace argo-rollouts --timeout 5m deployment/argo-rollouts
    fi
    printf '\nThe cluster is up. Next: make deploy\n'
}

deploy() {
    need kind kubectl helm
    need_engine
    if ! is_there; then
        echo "The cluster $CLUSTER isn't there yet: make kind-up makes it." >&2
        exit 1
    fi
    local archive="${ARCHIVE:-}" version
    version="$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$root/service/__init__.py")"
    if [ -z "$archive" ]; then
        archive="$root/build/timbre.tar"
        mkdir -p "$root/build"
        # By its whole name: podman would call it localhost/timbre, and docker docker.io/library/timbre.
        IMAGE=docker.io/library/timbre "$root/k8s/image/build.sh" "$archive"
    fi
    kind load image-archive --name "$CLUSTER" "$archive"
    # The tag is the same after every build. What tells builds apart is the archive, and by the
    # annotation Kubernetes knows that it has to make the pods anew.
    install timbre "$root/helm/timbre" --namespace timbre --values "$here/timbre.yaml" \
        --set-string "image.tag=$version" \
        --set-string "podAnnotations.timbre/archive=$(cksum <"$archive" | tr ' ' -)"
    printf '\nTimbre is at %s. Ask it with any recording of speech:\n\n' "$URL"
    printf '    curl --data-binary @clip.wav %s/v1/classify\n\n' "$URL"
}

down() {
    need kind
    need_engine
    kind delete cluster --name "$CLUSTER"
}

case "${1:-}" in
    up | deploy | down) "$1" ;;
    *)
        echo "cluster.sh up | deploy | down" >&2
        exit 2
        ;;
esac
