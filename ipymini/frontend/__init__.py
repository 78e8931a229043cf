"""frontend: what the kernel says to frontends and asks them for."""
