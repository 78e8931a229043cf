"""tools: commands and functions beside the kernel's main job."""
