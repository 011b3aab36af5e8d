#!/bin/sh
# Pulls the images of a compose project and starts what changed. Exit 75 says "try again later": the registry may be
# behind the push.
set -eu

: "${PROJECT:?set it under env in hooks.yaml}"
cd "$PROJECT"
docker compose pull --quiet || exit 75
docker compose up --detach --remove-orphans --wait
