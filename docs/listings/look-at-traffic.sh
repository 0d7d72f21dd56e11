# upstream
python3 -m http.server 8097 --bind 127.0.0.1 &
# wait
curl --silent --retry 20 --retry-delay 1 --retry-connrefused http://127.0.0.1:8097/quickstart.conf
# start
portfwd run -c look-at-traffic.conf > look-at-traffic.log &
curl --silent --retry 20 --retry-delay 1 --retry-connrefused http://127.0.0.1:8096/quickstart.conf
# stop
kill -TERM $!
wait $!
# look
grep 'files: session 1: [<>]' look-at-traffic.log
# list
portfwd replay files.record
# whether it differs
set +e
# replay
portfwd replay files.record --to 127.0.0.1:8097 --no-wait
# end
case $? in 0 | 1) ;; *) exit 1 ;; esac
kill -TERM %1
