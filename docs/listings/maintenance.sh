portfwd run -c maintenance.conf > maintenance.log &
until grep -q 'portfwd is ready' maintenance.log; do sleep 0.1; done
export PORTFWD_ADMIN=admin.sock
# drain
portfwd target web 127.0.0.1:8127 drain
# look
portfwd targets web
# down
portfwd target web 127.0.0.1:8127 down
# auto
portfwd target web 127.0.0.1:8127 auto
# end
kill -TERM $!
wait $!
