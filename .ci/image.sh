#!/usr/bin/env bash
# Build both images and test what is in them: image.sh ARCHIVE TOOLS_ARCHIVE. With docker as users
# have it; where there is only root and Debian, with buildah on a base made here.
set -euo pipefail
cd "$(dirname "$0")/.."
archive="$1" tools="$2"
VENV="${VENV:-.venv}"

if ! docker info >/dev/null 2>&1; then
    packages=(buildah runc mmdebstrap)
    if ! dpkg -s "${packages[@]}" >/dev/null 2>&1; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
    fi
    # What builds needs neither systemd nor more files than this machine may open.
    configuration="$(mktemp)"
    trap 'rm -f "$configuration"' EXIT
    cat >"$configuration" <<'END'
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
END
    export CONTAINERS_CONF="$configuration" ENGINE=buildah BASE_IMAGE=localhost/timbre-base:bookworm
    export IMAGE=localhost/timbre
    buildah inspect --type image "$BASE_IMAGE" >/dev/null 2>&1 || .ci/base.sh "$BASE_IMAGE"
    # The network and its certificates are this machine's, whatever stands between it and an index.
    BUILD_ARGS="--network host --volume /etc/ssl/certs:/etc/ssl/certs:ro"
    if [ -f /etc/pip.conf ]; then BUILD_ARGS+=" --volume /etc/pip.conf:/etc/pip.conf:ro"; fi
    export BUILD_ARGS
fi

make image ARCHIVE="$archive"
make tools-image ARCHIVE="$tools"
TIMBRE_IMAGE_ARCHIVE="$archive" TIMBRE_TOOLS_ARCHIVE="$tools" "$VENV"/bin/python -m pytest tests/image
"$VENV"/bin/python -m tests.support.image "$archive"
