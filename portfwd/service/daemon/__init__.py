"""Parts that affect the whole process: signals, files, threads, log, systemd, the garbage collector."""
