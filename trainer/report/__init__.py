"""One HTML file about many runs: a table, learning curves, a heat map, configurations, logs and differences.

    python -m trainer report outputs/2026-11-23      # writes outputs/2026-11-23/report.html

``payload.py`` makes plain data of the runs; ``page.py`` puts them into ``page.html`` together with ``page.css`` and the
scripts; the page loads nothing else. Text from runs is not trusted: it is in the page as JSON, and the scripts show it
as text.
"""
