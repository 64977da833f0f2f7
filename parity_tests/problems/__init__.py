"""Problems that both backends are given."""
