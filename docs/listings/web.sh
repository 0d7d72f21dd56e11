python3 -m http.server 8096 --bind 127.0.0.1 &
# token
(umask 077; python3 -c 'import secrets; print(secrets.token_urlsafe(24))' > web-token)
# start
portfwd run -c web.conf > web.log &
curl --silent --retry 20 --retry-delay 1 --retry-connrefused http://127.0.0.1:9101/readyz
curl --silent --output page http://127.0.0.1:8094/web.conf
# look
curl --silent --fail http://127.0.0.1:9101/api/v1/status
curl --silent --fail 'http://127.0.0.1:9101/api/v1/sessions?rule=files&sort=bytes&limit=3'
# watch
curl --silent --fail --no-buffer 'http://127.0.0.1:9101/api/v1/top?interval=1s&count=2'
# steer
curl --silent --fail --oauth2-bearer "$(cat web-token)" --json '{"rule": "files"}' http://127.0.0.1:9102/api/v1/pause
curl --silent --fail --oauth2-bearer "$(cat web-token)" --json '{"rule": "files"}' http://127.0.0.1:9102/api/v1/resume
# program
python3 web-client.py
# end
kill -TERM %2
wait %2
kill -TERM %1
