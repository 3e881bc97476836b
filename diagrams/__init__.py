"""Diagrams of a few configurations, and the script that draws them."""
