"""Many runs, a process each."""
