"""Habitat's Nav & Pick (paper section 4.2 and A.5): task, environments, options, nets, the home. For Habitat."""
