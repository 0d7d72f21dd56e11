portfwd run -c reload.conf > reload.log &
until grep -q 'portfwd is ready' reload.log; do sleep 0.1; done
# break
echo 'ssh: 127.0.0.1:8103 -> 10.0.0.5:22 ilde=1h' >> reload.conf
kill -HUP $!
until grep 'refused, nothing was changed' reload.log; do sleep 0.1; done
until grep "did you mean 'idle'" reload.log; do sleep 0.1; done
# fix
sed -i 's/ilde/idle/' reload.conf
kill -HUP $!
until grep 'reload: done' reload.log; do sleep 0.1; done
grep '1 added, 1 unchanged' reload.log
# end
kill -TERM $!
wait $!
