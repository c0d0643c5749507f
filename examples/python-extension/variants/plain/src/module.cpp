#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "model.h"

namespace py = pybind11;

PYBIND11_MODULE(_C, module) {
  py::class_<Model>(module, "Model", "A TorchScript model")
      .def(py::init<const std::string&>(), py::arg("path"))
      .def(
          "forward",
          [](const Model& model, std::vector<float> values, std::vector<std::int64_t> shape) {
            Array output;
            {
              const py::gil_scoped_release others_run_meanwhile;
              output = model.forward({std::move(values), std::move(shape)});
            }
            return py::make_tuple(output.values, output.shape);
          },
          py::arg("values"), py::arg("shape"),
          "Run the model on numbers in row-major order; returns those of the output, and its shape.");
}
