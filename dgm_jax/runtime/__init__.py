"""The place where a program runs: devices, processes, signals, the lock of a folder, exit codes."""
