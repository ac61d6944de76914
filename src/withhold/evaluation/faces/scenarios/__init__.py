"""What competitors may do with published faces, one file each; `table.py` names them."""
