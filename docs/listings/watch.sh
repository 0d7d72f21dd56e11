echo 'web: 127.0.0.1:8104 -> 127.0.0.1:8102' > watch.conf
portfwd run -c watch.conf --watch > watch.log &
until grep -q 'portfwd is ready' watch.log; do sleep 0.1; done
echo 'ssh: 127.0.0.1:8105 -> 10.0.0.5:22' >> watch.conf
until grep '1 added, 1 unchanged' watch.log; do sleep 0.1; done
# end
kill -TERM $!
wait $!
