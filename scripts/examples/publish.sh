#!/bin/sh
# Copies `public/` (or the whole tree) beside $PUBLISH_TO, then puts it in its place: no half-copied pages are served.
set -eu

: "${PUBLISH_TO:?set it under env in hooks.yaml}"
from=public
[ -d "$from" ] || from=.

fresh="$PUBLISH_TO.new.$$"
old="$PUBLISH_TO.old.$$"
trap 'rm -rf "$fresh"' EXIT

mkdir -p "$fresh"
tar -C "$from" --exclude=./.git -cf - . | tar -C "$fresh" -xf -
if [ -e "$PUBLISH_TO" ]; then
    mv "$PUBLISH_TO" "$old"
fi
mv "$fresh" "$PUBLISH_TO"
rm -rf "$old"
echo "published to $PUBLISH_TO"
if [ -n "${DEPLOY_OUTPUT:-}" ]; then
    echo "files=$(find "$PUBLISH_TO" -type f | wc -l | tr -d ' ')" >>"$DEPLOY_OUTPUT"
fi
