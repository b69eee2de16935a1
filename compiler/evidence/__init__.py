"""Evidence: what really runs, how fast, and how exact; nothing here reaches an output folder."""
