// One Python interpreter, linked the ordinary way: Python's headers, libpython and libtorch_python. One libtorch serves
// the C++ and the Python side, so that a tensor is the same object on both, autograd included. All threads share one
// interpreter lock. Compare with ../src/main.cpp.
//
//   plain-embedding PACKAGE.pt

#include <Python.h>

#include <ATen/core/Tensor.h>
#include <ATen/ops/ones.h>
#include <torch/csrc/autograd/python_variable.h>

#include <cstdio>
#include <stdexcept>
#include <string>

namespace {

// Ends with Python's traceback if there is no object.
PyObject* checked(PyObject* object) {
  if (object) return object;
  PyErr_Print();
  throw std::runtime_error("Python raised an exception");
}

void start_python(const char* executable) {
  PyConfig config;
  PyConfig_InitPythonConfig(&config);
  config.install_signal_handlers = 0;
  // Where the standard library and the site-packages are; without it Python looks beside this program.
  PyStatus status = PyConfig_SetBytesString(&config, &config.executable, executable);
  if (!PyStatus_Exception(status)) status = PyConfig_SetBytesString(&config, &config.program_name, executable);
  if (!PyStatus_Exception(status)) status = Py_InitializeFromConfig(&config);
  PyConfig_Clear(&config);
  if (PyStatus_Exception(status)) throw std::runtime_error(status.err_msg ? status.err_msg : "Python did not start");
}

void run(const char* package) {
  PyObject* module = checked(PyImport_ImportModule("torch.package"));
  PyObject* importer = checked(PyObject_CallMethod(module, "PackageImporter", "s", package));
  PyObject* model = checked(PyObject_CallMethod(importer, "load_pickle", "ss", "model", "model.pkl"));
  PyObject* input = checked(THPVariable_Wrap(at::ones({1, 1, 10, 10})));
  PyObject* output = checked(PyObject_CallFunctionObjArgs(model, input, nullptr));
  if (!THPVariable_Check(output)) throw std::runtime_error("the model did not return a tensor");
  const at::Tensor values = THPVariable_Unpack(output).detach().flatten().slice(0, 0, 5).to(at::kDouble);
  for (std::int64_t i = 0; i < values.numel(); ++i) std::printf("%s%.6f", i ? " " : "", values[i].item<double>());
  std::printf("\n");
  for (PyObject* each : {output, input, model, importer, module}) Py_DECREF(each);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: plain-embedding PACKAGE.pt\n");
    return 2;
  }
  try {
    start_python(PYTHON_EXECUTABLE);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "plain-embedding: %s\n", error.what());
    return 1;
  }
  try {
    run(argv[1]);
    return Py_FinalizeEx() == 0 ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "plain-embedding: %s: %s\n", argv[1], error.what());
    return 1;
  }
}
