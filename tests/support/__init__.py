"""Shared parts of the tests across components: real servers, small model files, wire tensors."""
