"""toxiproxy's API: clients make proxies and toxics at run time, which are rules of a running forwarder."""
