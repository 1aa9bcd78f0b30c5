"""Speed and quality against peers: every published figure comes from here."""
