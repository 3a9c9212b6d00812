//! infer's backend on ONNX Runtime, which is loaded at run time: CPU and CUDA.
