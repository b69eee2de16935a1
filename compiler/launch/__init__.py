"""Launch configuration: how to start a compiled model on its CPU with its runtime."""

from optc.launch.plan import MODES
from optc.launch.render import render_launch
from optc.launch.service import Service
from optc.launch.settings import Emitted, Settings

__all__ = ["MODES", "Emitted", "Service", "Settings", "render_launch"]
