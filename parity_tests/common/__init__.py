"""What all parts of the suite use: tolerances, types, the process."""
