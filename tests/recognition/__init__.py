"""Graphs as exporters write them, and what they are recognised as."""
