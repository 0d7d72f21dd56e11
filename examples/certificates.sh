#!/bin/sh
# Makes the certificates that the examples name, to try them: sh examples/certificates.sh /etc/portfwd
# They are self-signed. Files that exist are kept.
set -eu
mkdir -p "$1/certs"
cd "$1"
umask 077
for name in web db mx bank internal-ca staff-ca certs/default; do
    [ ! -e "$name.pem" ] || continue
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost -keyout "$name.key" -out "$name.pem"
    # cert= without key= takes both from one file.
    case $name in db | mx) cat "$name.key" >> "$name.pem" ;; esac
done
