"""The chain of a rule's filters: calls each filter in order and applies its verdicts."""
