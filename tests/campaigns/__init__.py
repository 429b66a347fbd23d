"""Campaigns that try to break the program: hostile inputs, kills and load. Run by hand, see ``__main__``."""
