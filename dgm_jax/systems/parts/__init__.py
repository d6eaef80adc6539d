"""The parts that systems are composed of; none of them is a system."""
