"""Which pixels move on their own: several ways to tell."""
