"""What changes images: the training data's, and those that a discriminator sees. Draws nothing itself, it is given numbers."""
