"""The curvature matrices: what the user says, and which derivatives of the loss they are."""
