"""What is different between two rulesets."""
