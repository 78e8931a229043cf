"""protocol: messages, and their bytes: values and pure functions."""
