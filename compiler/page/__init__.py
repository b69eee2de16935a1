"""report.html: what report.json says, as one page for people. See `optc.page.render`."""

from typing import Final

PAGE: Final = "report.html"
REPORT: Final = "report.json"
