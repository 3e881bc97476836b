"""The HTML report of a run: one self-contained page, made from the run folder alone.

`page` puts the sections together, `read_run_folder` reads the folder; `axes`, `charts` and `curve_points` draw charts as SVG.
To add a section: a file in `sections`, a line in `page.render_page` and, if needed, rules in ``page.css``.
"""
