//! infer's backend on OpenVINO, which is loaded at run time: CPU, GPU and NPU.
