#!/usr/bin/env bash
# Make localhost/timbre-base, a base for the image where no registry is reached: Debian 12 and its
# Python by mmdebstrap, from whatever mirror apt has here. Needs root, mmdebstrap and buildah.
set -euo pipefail
name="${1:-localhost/timbre-base:bookworm}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
sources=/etc/apt/sources.list.d/debian.sources
[ -s "$sources" ] || sources=/etc/apt/sources.list

# Without apt, documentation and caches: what Debian's own slim image leaves out, and more.
# In the hook's own shell $1 is the base's root.
# shellcheck disable=SC2016
left_out='rm -rf "$1"/var/lib/apt "$1"/var/cache/* "$1"/var/log/* "$1"/etc/resolv.conf'
# /usr is merged by the hook, since Debian's package for it would bring all of Perl.
mmdebstrap --quiet --variant=essential \
    --include=python3,python3-venv,ca-certificates,libstdc++6,usr-is-merged \
    --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook="$left_out" bookworm "$work/base.tar" "$sources"
container="$(buildah from scratch)"
buildah add --quiet "$container" "$work/base.tar" / >/dev/null
buildah config --cmd '["python3"]' "$container"
buildah commit --quiet --rm "$container" "$name" >/dev/null
echo "$name"
