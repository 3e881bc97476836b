"""The HTML report of a run: one self-contained page, made from the run folder alone.

`page` puts the `sections` together; they are made of the `elements`. To add a section: a file in `sections`, a line in
`page.render_page` and, if needed, rules in ``page.css``.
"""
