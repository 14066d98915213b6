"""Studies with people: what they are shown, what they answer, what follows, and the page. Knows pictures, not models."""
