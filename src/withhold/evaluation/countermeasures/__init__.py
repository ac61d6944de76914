"""What a competitor may do against protection: one file each, one signature, images and labels only."""
