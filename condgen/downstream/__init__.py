"""What data are good for: classifiers trained on real and generated images, and compared. Test images are looked at once."""
