"""The step of the policy: objective, Fisher products, constraint."""
