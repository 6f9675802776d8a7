"""What tests across components share: real servers, small model files, tensors on the wire."""
