"""The web page: one picture at a time, for people. It loads nothing from elsewhere, and its server keeps nothing."""
