"""Does: the actions of the states, on torch. What happens when is decided in `core`; here is only how."""
