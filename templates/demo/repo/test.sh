#!/bin/sh
# Runs every script in tests/, each with an empty stock file of its own. Exit code 1 when one fails.
set -u
cd "$(dirname -- "$0")" || exit 1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT

failed=0
for test in tests/*.sh; do
    INVENTORY_FILE=$folder/$(basename "$test" .sh).txt
    export INVENTORY_FILE
    if sh -eu "$test"; then
        echo "ok      $test"
    else
        echo "FAILED  $test"
        failed=1
    fi
done
exit "$failed"
