"""Images one at a time: a protector that was prepared once, and protects each image by itself when it comes."""
