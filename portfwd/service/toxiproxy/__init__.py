"""toxiproxy's API: proxies and toxics that clients make at run time, as rules of a running forwarder."""
