"""Images and pairs, with intrinsics that stay right: transforms, the synthetic world, Lightning data modules."""
