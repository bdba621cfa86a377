#!/bin/sh
# Sets up this container's home if it has none, swaps invitations with its partners over /shared, and becomes the node.
#   ORGANISATION  what the firm calls itself
#   NAME          what its partners call it
#   REACH         host name under which partners reach it; empty: it dials out only
#   PARTNERS      names of the others
# Real partners send invitations by mail and compare six words by telephone; here a shared folder stands for both.
set -eu

if [ ! -e "$LOTLINE_HOME/lotline.toml" ]; then
    set -- --name "$ORGANISATION" --kit /kit/recovery-kit.txt --passphrase-file /run/secrets/kit-passphrase
    if [ -n "$REACH" ]; then
        set -- "$@" --listen 0.0.0.0:4001 --announce "$REACH:4001"
    fi
    lotline init "$@"
fi

# Written whole, then named: nobody reads half an invitation.
lotline partner invite --offline >/tmp/invitation
sed -n 1p /tmp/invitation >"/shared/invitations/.$NAME"
mv "/shared/invitations/.$NAME" "/shared/invitations/$NAME"
for partner in $PARTNERS; do
    until [ -s "/shared/invitations/$partner" ]; do
        echo "waiting for the invitation of $partner"
        sleep 2
    done
    lotline partner accept "$(cat "/shared/invitations/$partner")" --as "$partner" --subscribe
done

exec lotline run --verbose
