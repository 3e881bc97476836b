"""What things cost: scripts that measure side by side and print. None of them is a test."""
