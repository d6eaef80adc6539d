"""What a compiled program takes: operations, memory, traffic, time to draw."""
