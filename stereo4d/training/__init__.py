"""Training: objectives and LightningModules."""
