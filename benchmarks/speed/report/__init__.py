"""Tables and figures of the timings."""
