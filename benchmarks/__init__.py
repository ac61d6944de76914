"""Speed, memory and exactness: scripts that print JSON."""
