// The functions of CPython that are used, all of its stable ABI, looked up in one namespace's libpython. No header of
// Python is needed, and the same program runs with any version from 3.8 on.
#pragma once

#include <cstddef>

namespace torch::deploy::detail {

struct PyObject;
struct PyThreadState;
using Py_ssize_t = std::ptrdiff_t;

// X(result, name, parameters)
#define PYTHON_FUNCTIONS(X)                                              \
  X(wchar_t*, Py_DecodeLocale, (const char*, std::size_t*))              \
  X(void, Py_SetProgramName, (const wchar_t*))                           \
  X(void, Py_InitializeEx, (int))                                        \
  X(const char*, Py_GetVersion, ())                                      \
  X(void, Py_IncRef, (PyObject*))                                        \
  X(void, Py_DecRef, (PyObject*))                                        \
  X(PyObject*, Py_CompileString, (const char*, const char*, int))        \
  X(PyObject*, PyEval_EvalCode, (PyObject*, PyObject*, PyObject*))       \
  X(PyObject*, PyEval_GetBuiltins, ())                                   \
  X(int, PyGILState_Ensure, ())                                          \
  X(PyThreadState*, PyEval_SaveThread, ())                               \
  X(void, PyEval_RestoreThread, (PyThreadState*))                        \
  X(PyObject*, PyObject_Call, (PyObject*, PyObject*, PyObject*))         \
  X(PyObject*, PyObject_Type, (PyObject*))                               \
  X(PyObject*, PyObject_Str, (PyObject*))                                \
  X(PyObject*, PyObject_GetAttrString, (PyObject*, const char*))         \
  X(int, PyObject_HasAttrString, (PyObject*, const char*))               \
  X(int, PyType_IsSubtype, (PyObject*, PyObject*))                       \
  X(PyObject*, PyTuple_New, (Py_ssize_t))                                \
  X(int, PyTuple_SetItem, (PyObject*, Py_ssize_t, PyObject*))            \
  X(Py_ssize_t, PyTuple_Size, (PyObject*))                               \
  X(PyObject*, PyTuple_GetItem, (PyObject*, Py_ssize_t))                 \
  X(PyObject*, PyList_New, (Py_ssize_t))                                 \
  X(int, PyList_SetItem, (PyObject*, Py_ssize_t, PyObject*))             \
  X(Py_ssize_t, PyList_Size, (PyObject*))                                \
  X(PyObject*, PyList_GetItem, (PyObject*, Py_ssize_t))                  \
  X(PyObject*, PyDict_New, ())                                           \
  X(int, PyDict_SetItem, (PyObject*, PyObject*, PyObject*))              \
  X(int, PyDict_SetItemString, (PyObject*, const char*, PyObject*))      \
  X(PyObject*, PyDict_GetItem, (PyObject*, PyObject*))                   \
  X(PyObject*, PyDict_GetItemString, (PyObject*, const char*))           \
  X(int, PyDict_Next, (PyObject*, Py_ssize_t*, PyObject**, PyObject**))  \
  X(PyObject*, PyUnicode_FromStringAndSize, (const char*, Py_ssize_t))   \
  X(PyObject*, PyUnicode_AsEncodedString, (PyObject*, const char*, const char*)) \
  X(int, PyBytes_AsStringAndSize, (PyObject*, char**, Py_ssize_t*))      \
  X(PyObject*, PyBytes_FromStringAndSize, (const char*, Py_ssize_t))     \
  X(PyObject*, PyLong_FromLongLong, (long long))                         \
  X(long long, PyLong_AsLongLong, (PyObject*))                           \
  X(PyObject*, PyFloat_FromDouble, (double))                             \
  X(double, PyFloat_AsDouble, (PyObject*))                               \
  X(PyObject*, PyBool_FromLong, (long))                                  \
  X(PyObject*, PyComplex_FromDoubles, (double, double))                  \
  X(double, PyComplex_RealAsDouble, (PyObject*))                         \
  X(double, PyComplex_ImagAsDouble, (PyObject*))                         \
  X(PyObject*, PyCapsule_New, (void*, const char*, void (*)(PyObject*))) \
  X(void*, PyCapsule_GetPointer, (PyObject*, const char*))               \
  X(int, PyCapsule_SetName, (PyObject*, const char*))                    \
  X(int, PyCapsule_IsValid, (PyObject*, const char*))                    \
  X(PyObject*, PyErr_Occurred, ())                                       \
  X(void, PyErr_Clear, ())                                               \
  X(void, PyErr_Fetch, (PyObject**, PyObject**, PyObject**))             \
  X(void, PyErr_NormalizeException, (PyObject**, PyObject**, PyObject**))

// Objects that libpython exports.
#define PYTHON_OBJECTS(X)                                                                                  \
  X(_Py_NoneStruct) X(PyBool_Type) X(PyLong_Type) X(PyFloat_Type) X(PyComplex_Type) X(PyUnicode_Type)      \
  X(PyBytes_Type) X(PyList_Type) X(PyTuple_Type) X(PyDict_Type)

struct PythonApi {
#define FUNCTION(result, name, parameters) result(*name) parameters = nullptr;
  PYTHON_FUNCTIONS(FUNCTION)
#undef FUNCTION
#define OBJECT(name) PyObject* name = nullptr;
  PYTHON_OBJECTS(OBJECT)
#undef OBJECT

  /// Looks all of them up. Throws InterpreterError if the library lacks one.
  explicit PythonApi(void* library);
};

}  // namespace torch::deploy::detail
