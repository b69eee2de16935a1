"""report.html: what report.json says, as one page for people. See `optc.page.render`."""

from optc.page.render import PAGE, page_of, render_page
from optc.page.stored import REPORT, read_reports

__all__ = ["PAGE", "REPORT", "page_of", "read_reports", "render_page"]
