cp ssh_only_5.py ssh_only.py
# explain
export PYTHONPATH=.:${PYTHONPATH:-}
portfwd help filter python:ssh_only.SSHOnly
portfwd check first-filter.conf
# start
portfwd run -c first-filter.conf > first-filter.log &
curl --silent --http0.9 --retry 20 --retry-delay 1 --retry-connrefused http://127.0.0.1:8095/
# stop
kill -TERM $!
wait $!
grep 'rule=guarded .* reason=FD' first-filter.log
# end
