"""The chain of a rule's filters: asks each filter in order and gives its verdicts their effect."""
