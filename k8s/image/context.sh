#!/usr/bin/env bash
# Make the context that Containerfile is built in: context.sh FOLDER, with bentoml on PATH.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
context="${1:?name the folder to make}"

rm -rf "$context"
mkdir -p "$context"
context="$(cd "$context" && pwd)"
store="$(mktemp -d)"
trap 'rm -rf "$store"' EXIT
# A store of its own: the user's is for the user's Bentos.
export BENTOML_HOME="$store" BENTOML_DO_NOT_TRACK=True
cd "$root"
bentoml build --output tag >&2
bento="$(bentoml get timbre:latest --output path)"
mkdir "$context/src"
cp -r "$bento/src/service" "$bento/src/LICENSE" "$context/src/"
cp "$here"/{Containerfile,requirements.lock,sbom.lock,tools.lock,left-out.txt,slim.py,timbre} "$context/"
# Builders take modes over, and checkouts differ in them by the user's umask.
chmod -R u=rwX,go=rX "$context"
