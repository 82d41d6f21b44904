"""The programs that are measured: each stands alone in its environment and imports nothing from here but `child`."""
