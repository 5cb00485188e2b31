"""Write the table of killers into docs/killers.md."""

from tests.killers.table import PAGE, page

PAGE.write_text(page(), encoding="utf-8")
