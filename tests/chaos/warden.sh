#!/bin/sh
# Ends everything of the scene $1 once the harness is gone, however it went: its end closes our input.
# If it said `keep` before, the scene stays for a look.

read -r wish || wish=

# By the mark in their environment, or by the folder they work in, since a daemon shows no environment; each by its number,
# until nobody is left: who is killed may have just forked.
found() {
    grep -lszxF "CHAOS_SCENE=$1" /proc/[0-9]*/environ | tr -dc '0-9\n'
    find /proc/[0-9]*/cwd -maxdepth 0 -lname "$1" 2>/dev/null | tr -dc '0-9\n'
}
while pids=$(found "$1") && [ -n "$pids" ]; do
    # shellcheck disable=SC2086
    kill -9 $pids 2>/dev/null
done

if grep -qF " $1/state " /proc/self/mounts; then
    [ "$wish" != keep ] || cp -a "$1/state" "$1/state.kept"
    umount -l "$1/state"
fi
[ "$wish" = keep ] || rm -rf "$1"
