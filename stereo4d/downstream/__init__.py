"""What pair predictions are good for beside 4D reconstruction."""
