"""Acting in environments: training rollouts and evaluations."""
