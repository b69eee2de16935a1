"""Which form of an idea each runtime runs fastest; see `benchmarks.forms.run`."""
