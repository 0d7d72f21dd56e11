python3 -m http.server 8096 --bind 127.0.0.1 &
portfwd run -c on-call.conf > on-call.log &
curl --silent --output page --retry 20 --retry-delay 1 --retry-connrefused http://127.0.0.1:8097/on-call.conf
# socket
export PORTFWD_ADMIN=admin.sock
# look
portfwd status
portfwd rules
portfwd sessions --rule web --sort bytes
portfwd top --count 1
portfwd explain 127.0.0.1 :8097
portfwd explain on-call.conf 127.0.0.1 :8097
# program
python3 control-client.py
# pause
portfwd pause web
portfwd resume web
# faults
portfwd faults lab on
portfwd faults lab set latency delay=300ms
portfwd faults lab off
# reload
cp on-call.conf before.conf
sed -i 's/delay=200ms/delay=100ms/' on-call.conf
portfwd reload --dry-run
portfwd reload
# drain
portfwd drain lab
# kill
portfwd kill --client 127.0.0.1
# level
portfwd log-level warn
# stop
portfwd stop
wait %2
# end
cp before.conf on-call.conf
kill -TERM %1
