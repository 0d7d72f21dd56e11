"""
A forwarder under random reloads, pauses, drains and kills, with sessions on every rule.

``python -m tests.chaos --seed N --steps 1000`` runs a real ``twistd portfwd``. `model` says after each step
what must be so, `edits` makes the steps from the seed, `driver` does them and compares. The model and the
edits do no input and output; their tests are beside them.
"""
