"""execution: sockets, threads, and interrupts."""
