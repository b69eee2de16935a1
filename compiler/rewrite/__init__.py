"""Rewriting: patterns written as the subgraph they match, rules, their driver and their trace."""
