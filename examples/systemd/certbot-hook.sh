#!/bin/sh
# For /etc/letsencrypt/renewal-hooks/deploy/portfwd: certbot runs it as root after each renewal, with RENEWED_LINEAGE.
# It writes the certificate and its key into one file that the group can read, and replaces the old file in one step.
set -eu
group=${GROUP:-portfwd-tls}
place=${PLACE:-/etc/portfwd/tls}
file=$place/${RENEWED_LINEAGE##*/}.pem
new=$place/.new.$$
umask 077
install -d -g "$group" -m 750 "$place"
cat "$RENEWED_LINEAGE/fullchain.pem" "$RENEWED_LINEAGE/privkey.pem" > "$new"
chgrp "$group" "$new"
chmod 640 "$new"
mv "$new" "$file"
