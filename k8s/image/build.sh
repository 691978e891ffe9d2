#!/usr/bin/env bash
# Build the image with what is there of docker, podman and buildah: build.sh [ARCHIVE]
#
# ARCHIVE, a file, gets the image as docker's archive, for `kind load image-archive` and the like.
# TARGET=tools builds the image of the tools, timbre-tools. ENGINE names one of the three; BASE_IMAGE
# another base image; IMAGE another name than timbre; BUILD_ARGS has further arguments of the
# engine's build command.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
archive="${1:-}"
target="${TARGET:-server}"
image="${IMAGE:-timbre}"
if [ "$target" = tools ]; then image+="-tools"; fi

# `info` fails where the program is missing, and where its daemon is.
engine="${ENGINE:-$(for each in docker podman buildah; do
    if "$each" info >/dev/null 2>&1; then echo "$each" && break; fi
done)}"
if [ -z "$engine" ]; then
    echo "An image needs docker, podman or buildah, and none of them runs here." >&2
    exit 1
fi

version="$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$root/service/__init__.py")"
revision="$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)"
# The time of the last commit, not of the build, which would make every image another one.
SOURCE_DATE_EPOCH="$(git -C "$root" log -1 --format=%ct 2>/dev/null || echo 0)"
export SOURCE_DATE_EPOCH
digest="sha256:$(sha256sum "$root/service/default_bundle/bundle.json" | cut -d' ' -f1)"
tags=("$image:$version" "$image:$version-${revision:0:12}")

context="$root/build/image"
"$here/context.sh" "$context"

arguments=(--file "$context/Containerfile" --target "$target")
for tag in "${tags[@]}"; do arguments+=(--tag "$tag"); done
for argument in VERSION="$version" REVISION="$revision" BUNDLE_DIGEST="$digest" ${BASE_IMAGE:+BASE="$BASE_IMAGE"}; do
    arguments+=(--build-arg "$argument")
done
read -r -a further <<<"${BUILD_ARGS:-}"
if [ "$engine" = docker ]; then
    # By BuildKit, which older ones have inside and newer ones as buildx. Its image stores keep the
    # times that files got by the build; the release's exporter puts the commit's in their place.
    DOCKER_BUILDKIT=1 docker build "${arguments[@]}" "${further[@]}" "$context"
else
    # Older ones take a layer that was built with another value of an argument, and the labels with
    # it, so that an image whose files are those of an earlier commit would name that one.
    sed -i "s/\${REVISION}/$revision/" "$context/Containerfile"
    "$engine" build --layers --timestamp "$SOURCE_DATE_EPOCH" "${arguments[@]}" "${further[@]}" "$context"
fi
if [ -n "$archive" ]; then
    rm -f "$archive"
    case "$engine" in
        docker) docker save --output "$archive" "${tags[@]}" ;;
        podman) podman save --format docker-archive --output "$archive" "${tags[0]}" ;;
        buildah) buildah push --quiet "${tags[0]}" "docker-archive:$archive:${tags[0]}" ;;
    esac
    echo "$archive"
fi
echo "${tags[@]}"
