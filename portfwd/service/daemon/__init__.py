"""What concerns the process: signals, files, threads, the event log, systemd, the garbage collector."""
