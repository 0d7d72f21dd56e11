"""How much may be had of everything: caps, budgets. Pure; time is an argument."""
