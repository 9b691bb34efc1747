"""One module per way of writing. Nowhere else in the core does a platform have a name."""
