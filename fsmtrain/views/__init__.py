"""What people see of a loop or a run: diagrams, console output, the run folder and its report.

Views read tables, traces, plans and `run_view.RunView`. They change nothing, and never import `runtime`.
"""
