"""Adapters to other packages: a run in the form that the package expects. They decide nothing and train nothing themselves.

Only files here import these packages. `machine` imports `transitions` when it is asked for it. `lightning` builds machines, as
a user does, so nothing imports it.
"""
