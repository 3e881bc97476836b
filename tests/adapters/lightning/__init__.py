"""Programs of Lightning 2, each run by Lightning's own trainer and by ours. Skipped where Lightning is not installed."""
