#!/bin/sh
# Builds what is in the tree, whatever it is built with. Runs in the tree; the commit is in $DEPLOY_SHA.
set -eu

echo "building ${DEPLOY_SHORT_SHA:-the working tree} of ${DEPLOY_REPO:-this folder}"
if [ -f package-lock.json ]; then
    npm ci
    npm run build --if-present
elif [ -f Makefile ]; then
    make
else
    echo "nothing to build"
fi
