"""All checks, as the tests, the certificate and the planted faults call them."""
