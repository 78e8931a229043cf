"""serving: the parts of the kernel: subshells, interrupts, replies, questions, the end."""
