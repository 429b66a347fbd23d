"""Damaged and hostile files for the campaign ``fuzz``, each made from a seed."""
