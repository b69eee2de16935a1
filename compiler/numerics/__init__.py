"""Numbers: run models, make and read inputs, measure errors and metrics, derive tolerances."""
