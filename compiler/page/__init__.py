"""report.html: what report.json says, as one page for people. See `optc.page.render`."""

from optc.page.render import PAGE, render_page, write_page
from optc.page.stored import read_reports

__all__ = ["PAGE", "read_reports", "render_page", "write_page"]
