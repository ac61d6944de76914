"""What an evaluation found, as one page for people and two files for programs."""
