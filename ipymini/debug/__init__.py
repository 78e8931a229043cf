"""debug: the Debug Adapter Protocol, by debugpy in this process."""
