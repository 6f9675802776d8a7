"""The command `sigmax describe`: what a model file holds, and copies that describe themselves.

This package needs `onnx`, which a server does not.
"""
