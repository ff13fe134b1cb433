"""Encoders of texts. `tessella.encoder.trainable` has pooling with weights of its own; needs torch."""
