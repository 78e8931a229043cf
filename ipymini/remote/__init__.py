"""remote: kernels on other machines, started by gateways and launchers."""
