#!/bin/sh
# Lets a service of systemd take up the release that is live now. Runs after the switch, and again on the way back.
set -eu

unit=${UNIT:-$DEPLOY_HOOK}
if [ -n "${DEPLOY_ROLLBACK:-}" ]; then
    echo "going back: restarting $unit"
else
    echo "$DEPLOY_SHORT_SHA is live: restarting $unit"
fi
systemctl restart "$unit"
