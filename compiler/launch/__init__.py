"""Launch configuration: how to start a compiled model on its CPU with its runtime."""

from optc.launch.render import MODES, render_launch

__all__ = ["MODES", "render_launch"]
