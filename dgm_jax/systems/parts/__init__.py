"""What systems are put together of; none of it is a system."""
