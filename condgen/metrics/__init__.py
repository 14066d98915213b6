"""What a generator is measured by: extractors, the suite of metrics, the protocol under which each figure stands."""
