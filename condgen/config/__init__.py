"""Configuration: how it is composed, checked and turned into objects. Knows no family, no data set and no metric."""
