#!/bin/sh
# Shows what the services of a compose project said last, for whoever reads the failed run.
set -eu

: "${PROJECT:?set it under env in hooks.yaml}"
cd "$PROJECT"
docker compose ps --all
docker compose logs --tail 50
