// Functions on torch.Tensor. The type casters of pybind.h turn a torch.Tensor into an at::Tensor and back: the same tensor,
// with its graph, not a copy.
#include <ATen/ATen.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/utils/pybind.h>

namespace {

// Made of torch's own operations, so autograd differentiates it, and it runs on every device.
at::Tensor leaky_relu(const at::Tensor& x, double slope) {
  TORCH_CHECK_VALUE(slope >= 0, "slope must not be negative: ", slope);
  return at::where(x > 0, x, x * slope);
}

}  // namespace

PYBIND11_MODULE(_C, module) {
  module.def(
      "leaky_relu", torch::wrap_pybind_function_no_gil(leaky_relu), py::arg("x"), py::arg("slope") = 0.01,
      "x where it is positive, else x * slope; other Python threads run meanwhile.");
}
