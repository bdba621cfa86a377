#!/bin/sh
# Verifies each bundle that is dropped into /shared/bundles, once. No home, no node, and in compose.yaml no network.
# Exit codes of `lotline verify`: docs/operating.md. Without /trust/trust.toml the best answer is 7: intact, signer not established.
set -eu

while :; do
    for bundle in /shared/bundles/*.lotline; do
        done="/tmp/$(basename "$bundle").done"
        if [ ! -f "$bundle" ] || [ -e "$done" ]; then
            continue
        fi
        code=0
        if [ -f /trust/trust.toml ]; then
            lotline verify "$bundle" --trust /trust/trust.toml || code=$?
        else
            lotline verify "$bundle" || code=$?
        fi
        echo "$bundle: exit code $code"
        : >"$done"
    done
    sleep 2
done
