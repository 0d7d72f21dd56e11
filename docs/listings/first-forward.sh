# upstream
python3 -m http.server 8091 --bind 127.0.0.1 &
# check
portfwd check first-forward.conf
# start
portfwd run -c first-forward.conf > first-forward.log &
# try
curl --silent --retry 20 --retry-delay 1 --retry-connrefused http://127.0.0.1:8090/first-forward.conf
# stop
kill -TERM $!
wait $!
# log
grep 'rule=files .* reason=--' first-forward.log
# end
kill -TERM %1
