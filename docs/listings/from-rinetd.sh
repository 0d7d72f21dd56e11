portfwd check rinetd.conf
portfwd explain rinetd.conf 192.168.1.66 0.0.0.0:8022
portfwd convert rinetd.conf > rules.conf
portfwd check rules.conf
