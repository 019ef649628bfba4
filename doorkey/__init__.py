"""The four MiniGrid tasks behind one door (paper section 4.1)."""
