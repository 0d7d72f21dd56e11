portfwd run -c metrics.conf > metrics.log &
curl --silent --retry 20 --retry-delay 1 --retry-connrefused http://127.0.0.1:9100/readyz
# ask
curl --silent http://127.0.0.1:9100/metrics | grep '^portfwd_sessions'
# end
kill -TERM %1
wait %1
