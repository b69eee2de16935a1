"""Writers of models: the road from the graph IR to files."""
