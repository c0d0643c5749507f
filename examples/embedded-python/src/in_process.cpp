// Interpreters in namespaces of this process: values are converted by CPython's own functions, tensors by DLPack, whose
// structs carry a function that frees them on the side that made them.
#include "backend.h"
#include "configuration.h"
#include "namespace.h"
#include "values.h"

#include <ATen/DLConvertor.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <multipy/runtime/deploy.h>

#include <algorithm>
#include <future>
#include <mutex>

namespace torch::deploy::detail {

namespace {

class InProcess;

/// A reference that is held during a job.
class Held {
 public:
  Held(const PythonApi& api, PyObject* object) : api_(&api), object_(object) {}
  Held(Held&& other) noexcept : api_(other.api_), object_(other.release()) {}
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  Held& operator=(Held&&) = delete;
  ~Held() {
    if (object_) api_->Py_DecRef(object_);
  }
  PyObject* get() const { return object_; }
  PyObject* release() { return std::exchange(object_, nullptr); }

 private:
  const PythonApi* api_;
  PyObject* object_;
};

/// A reference that the program holds.
class InProcessObject : public Object {
 public:
  InProcessObject(std::shared_ptr<Backend> home, Namespace& space, PyObject* reference)
      : Object(std::move(home)), object(reference), space_(space) {
    space_.lent.fetch_add(1, std::memory_order_relaxed);
  }
  ~InProcessObject() override {
    space_.dispose({[](const PythonApi& py, void* what) { py.Py_DecRef(static_cast<PyObject*>(what)); }, object});
  }
  PyObject* const object;

 private:
  Namespace& space_;
};

// The dtypes that cross as they are (see support.py), and integers of the same size for the others.
bool crosses(at::ScalarType type) {
  switch (type) {
    case at::kByte: case at::kChar: case at::kShort: case at::kInt: case at::kLong: case at::kHalf: case at::kBFloat16:
    case at::kFloat: case at::kDouble: case at::kComplexFloat: case at::kComplexDouble:
      return true;
    default:
      return false;
  }
}

at::ScalarType of_same_size(std::size_t bytes) {
  return bytes == 1 ? at::kByte : bytes == 2 ? at::kShort : bytes == 4 ? at::kInt : at::kLong;
}

class InProcess : public Backend {
 public:
  explicit InProcess(const Installation& installation) : space_(installation), py_(space_.python()) {
    space_.run([&] {
      const char* error = "the interpreter could not run its own support code";
      globals_ = py_.PyDict_New();
      if (py_.PyDict_SetItemString(globals_, "__builtins__", py_.PyEval_GetBuiltins()) != 0) throw InterpreterError(error);
      run_source(R"(__name__ = "embedded_python_support")", "name");
      run_source(kSupportSource, "<embedded-python: support.py>");
      run_source("confine()", "<embedded-python>");
    });
  }

  void start(std::int64_t index, const std::vector<std::string>& paths, int threads) override {
    space_.run([&] {
      Held list(py_, py_.PyList_New(static_cast<Py_ssize_t>(paths.size())));
      for (std::size_t i = 0; i < paths.size(); ++i)
        py_.PyList_SetItem(list.get(), static_cast<Py_ssize_t>(i), text(paths[i]));
      support("start", {number(index), list.release(), number(threads)});
      export_tensor_ = py_.PyDict_GetItemString(globals_, "export_tensor");
      import_tensor_ = py_.PyDict_GetItemString(globals_, "import_tensor");
      torch_ = py_.PyDict_GetItemString(globals_, "torch");
      tensor_type_ = checked(py_.PyObject_GetAttrString(torch_, "Tensor"));
      device_type_ = checked(py_.PyObject_GetAttrString(torch_, "device"));
      set_grad_enabled_ = checked(py_.PyObject_GetAttrString(
          Held(py_, checked(py_.PyObject_GetAttrString(torch_, "_C"))).get(), "_set_grad_enabled"));
    });
    started_ = true;
  }
  bool started() const { return started_; }

  void register_source(const std::string& name, const std::string& source) override {
    job([&] { check(py_.PyDict_SetItemString(py_.PyDict_GetItemString(globals_, "sources"), name.c_str(), Held(py_, text(source)).get())); });
  }

  ObjectPtr global(const std::string& module, const std::string& name) override {
    return object_job([&] { return support("find", {text(module), text(name)}); });
  }

  ObjectPtr from_ivalue(const at::IValue& value) override {
    return object_job([&] { return to_python(value); });
  }

  at::IValue to_ivalue(const Object& object) override {
    at::IValue result;
    job([&] { result = to_value(inner(object)); });
    return result;
  }

  ObjectPtr call(const Object& callable, const Arguments& arguments) override {
    return object_job([&] { return call_object(inner(callable), arguments); });
  }

  ObjectPtr attr(const Object& object, const std::string& name) override {
    return object_job([&] { return checked(py_.PyObject_GetAttrString(inner(object), name.c_str())); });
  }

  bool hasattr(const Object& object, const std::string& name) override {
    bool result = false;
    job([&] { result = py_.PyObject_HasAttrString(inner(object), name.c_str()) != 0; });
    return result;
  }

  ObjectPtr open_package(const std::shared_ptr<PackageFile>& package) override {
    return object_job([&] { return package_object(*package); });
  }

  Pickled pickle(const Object& object, const std::shared_ptr<PackageFile>& package) override {
    Pickled result;
    job([&] {
      PyObject* value = inner(object);
      py_.Py_IncRef(value);
      const Held packed(py_, support("pack", {key_of(package.get()), value}));
      result.data = bytes(py_.PyTuple_GetItem(packed.get(), 0));
      PyObject* storages = py_.PyTuple_GetItem(packed.get(), 1);
      PyObject* dtypes = py_.PyTuple_GetItem(packed.get(), 2);
      for (Py_ssize_t i = 0; i < py_.PyList_Size(storages); ++i) {
        result.storages.push_back(to_tensor(py_.PyList_GetItem(storages, i)));
        result.dtypes.push_back(string(py_.PyList_GetItem(dtypes, i)));
      }
    });
    result.package = package;
    return result;
  }

  ObjectPtr replica(const Pickled& pickled) override {
    return object_job([&] { return replica_object(pickled); });
  }

  at::IValue call_replica(const Pickled& pickled, const Arguments& arguments) override {
    at::IValue result;
    job([&] {
      const Held object(py_, replica_object(pickled));  // another thread may unload it meanwhile
      result = to_value(Held(py_, call_object(object.get(), arguments)).get());
    });
    return result;
  }

  void unload(std::int64_t id) override {
    job([&] { Held(py_, support("unload", {number(id)})); });
  }

  void flush() override {
    job([&] { Held(py_, support("flush", {})); });
  }

 private:
  // ---- jobs: the code below runs in a thread of the namespace, with the interpreter's lock

  void job(const std::function<void()>& work) {
    const bool gradients = c10::GradMode::is_enabled();  // the caller's torch::NoGradGuard holds in Python, too
    space_.run([&] {
      const Held flag(py_, py_.PyBool_FromLong(gradients));
      Held(py_, invoke(set_grad_enabled_, flag.get()));
      work();
    });
  }

  template <typename Work>
  ObjectPtr object_job(const Work& work) {
    ObjectPtr result;
    job([&] { result = std::make_shared<InProcessObject>(shared_from_this(), space_, work()); });
    return result;
  }

  PyObject* inner(const Object& object) const {
    if (object.backend.get() != this)
      throw InterpreterError("an object of another interpreter was used: convert it with toIValue or createMovable.");
    return static_cast<const InProcessObject&>(object).object;
  }

  PyObject* checked(PyObject* object) const {
    if (!object) raise();
    return object;
  }
  void check(int status) const {
    if (status < 0) raise();
  }

  [[noreturn]] void raise() const {
    PyObject *type = nullptr, *value = nullptr, *trace = nullptr;
    py_.PyErr_Fetch(&type, &value, &trace);
    py_.PyErr_NormalizeException(&type, &value, &trace);
    PyObject* describe = py_.PyDict_GetItemString(globals_, "describe");
    std::string parts[3] = {"Exception", "", "an exception without a description"};
    if (type && describe) {
      for (PyObject** each : {&value, &trace}) {
        if (*each) continue;
        *each = py_._Py_NoneStruct;
        py_.Py_IncRef(*each);
      }
      const Held arguments(py_, tuple({type, value, trace}));
      const Held described(py_, py_.PyObject_Call(describe, arguments.get(), nullptr));
      for (int i = 0; described.get() && i < 3; ++i) parts[i] = string(py_.PyTuple_GetItem(described.get(), i));
      py_.PyErr_Clear();
    }
    throw PythonError(parts[0], parts[1], parts[2] + hint_for(parts[1]));
  }

  void run_source(const char* source, const char* name) {
    const Held code(py_, checked(py_.Py_CompileString(source, name, 257 /* Py_file_input */)));
    Held(py_, checked(py_.PyEval_EvalCode(code.get(), globals_, globals_)));
  }

  /// Takes over the references.
  PyObject* tuple(std::initializer_list<PyObject*> items) const {
    PyObject* result = py_.PyTuple_New(static_cast<Py_ssize_t>(items.size()));
    Py_ssize_t index = 0;
    for (PyObject* item : items) py_.PyTuple_SetItem(result, index++, item);
    return result;
  }

  PyObject* invoke(PyObject* function, PyObject* argument) const {
    py_.Py_IncRef(argument);
    const Held arguments(py_, tuple({argument}));
    return checked(py_.PyObject_Call(function, arguments.get(), nullptr));
  }

  /// Calls a function of support.py; takes over the references.
  PyObject* support(const char* name, std::initializer_list<PyObject*> arguments) const {
    const Held items(py_, tuple(arguments));
    return checked(py_.PyObject_Call(py_.PyDict_GetItemString(globals_, name), items.get(), nullptr));
  }

  PyObject* text(const std::string& value) const {
    return checked(py_.PyUnicode_FromStringAndSize(value.data(), static_cast<Py_ssize_t>(value.size())));
  }
  PyObject* number(std::int64_t value) const { return checked(py_.PyLong_FromLongLong(value)); }
  PyObject* none() const {
    py_.Py_IncRef(py_._Py_NoneStruct);
    return py_._Py_NoneStruct;
  }
  PyObject* key_of(const PackageFile* package) const { return package ? number(package->key) : none(); }

  std::string bytes(PyObject* object) const {
    char* data = nullptr;
    Py_ssize_t size = 0;
    check(py_.PyBytes_AsStringAndSize(object, &data, &size));
    return {data, static_cast<std::size_t>(size)};
  }
  std::string string(PyObject* object) const {
    // "surrogatepass" rather than an exception: any str becomes some bytes
    return bytes(Held(py_, checked(py_.PyUnicode_AsEncodedString(object, "utf-8", "surrogatepass"))).get());
  }

  bool is(PyObject* object, PyObject* type) const {
    const Held own(py_, py_.PyObject_Type(object));
    return own.get() == type || py_.PyType_IsSubtype(own.get(), type) != 0;
  }

  PyObject* package_object(const PackageFile& package) {
    return package.reading([&] {
      if (package.bytes.defined()) return support("open_package_bytes", {number(package.key), from_tensor(package.bytes)});
      return support(
          "open_package", {number(package.key), text("/proc/self/fd/" + std::to_string(package.descriptor))});
    });
  }

  PyObject* replica_object(const Pickled& pickled) {
    {
      const Held key(py_, number(pickled.number));
      if (PyObject* known = py_.PyDict_GetItem(py_.PyDict_GetItemString(globals_, "replicas"), key.get())) {
        py_.Py_IncRef(known);
        return known;
      }
    }
    if (!pickled.package) return unpacked(pickled);
    Held(py_, package_object(*pickled.package));
    return pickled.package->reading([&] { return unpacked(pickled); });
  }

  PyObject* unpacked(const Pickled& pickled) {
    if (!pickled.module.empty()) {
      return support("load_replica", {number(pickled.number), key_of(pickled.package.get()), text(pickled.module),
                                      text(pickled.file)});
    }
    const auto count = static_cast<Py_ssize_t>(pickled.storages.size());
    Held storages(py_, py_.PyList_New(count));
    Held dtypes(py_, py_.PyList_New(count));
    for (Py_ssize_t i = 0; i < count; ++i) {
      py_.PyList_SetItem(storages.get(), i, from_tensor(pickled.storages[static_cast<std::size_t>(i)]));
      py_.PyList_SetItem(dtypes.get(), i, text(pickled.dtypes[static_cast<std::size_t>(i)]));
    }
    return support("unpack", {number(pickled.number), key_of(pickled.package.get()),
                              checked(py_.PyBytes_FromStringAndSize(
                                  pickled.data.data(), static_cast<Py_ssize_t>(pickled.data.size()))),
                              storages.release(), dtypes.release()});
  }

  PyObject* call_object(PyObject* callable, const Arguments& arguments) {
    const std::size_t count = arguments.values.size() + arguments.objects.size();
    const Held positional(py_, py_.PyTuple_New(static_cast<Py_ssize_t>(count)));
    for (std::size_t i = 0; i < count; ++i) {
      PyObject* item;
      if (arguments.objects.empty()) {
        item = to_python(arguments.values[i]);
      } else {
        item = inner(*arguments.objects[i]);
        py_.Py_IncRef(item);
      }
      py_.PyTuple_SetItem(positional.get(), static_cast<Py_ssize_t>(i), item);
    }
    const Held named(py_, arguments.named.empty() ? nullptr : py_.PyDict_New());
    for (const auto& [name, value] : arguments.named)
      check(py_.PyDict_SetItemString(named.get(), name.c_str(), Held(py_, to_python(value)).get()));
    return checked(py_.PyObject_Call(callable, positional.get(), named.get()));
  }

  // ---- tensors

  PyObject* from_tensor(const at::Tensor& given) const {
    if (!given.defined()) return none();
    check_dense(given);
    at::Tensor tensor = given.detach().resolve_conj().resolve_neg();
    std::string dtype;
    if (!crosses(tensor.scalar_type())) {
      dtype = dtype_name(tensor.scalar_type());
      tensor = tensor.view(of_same_size(tensor.element_size()));
    }
    DLManagedTensor* managed = at::toDLPack(tensor);
    PyObject* capsule = py_.PyCapsule_New(managed, "dltensor", nullptr);
    const Held arguments(py_, tuple({capsule, text(dtype)}));
    PyObject* result = py_.PyObject_Call(import_tensor_, arguments.get(), nullptr);
    if (py_.PyCapsule_IsValid(capsule, "dltensor")) managed->deleter(managed);  // Python did not take it over
    return checked(result);
  }

  at::Tensor to_tensor(PyObject* object) {
    const Held pair(py_, invoke(export_tensor_, object));
    PyObject* capsule = py_.PyTuple_GetItem(pair.get(), 0);
    const std::string dtype = string(py_.PyTuple_GetItem(pair.get(), 1));
    auto* managed = static_cast<DLManagedTensor*>(py_.PyCapsule_GetPointer(capsule, "dltensor"));
    if (!managed) raise();
    check(py_.PyCapsule_SetName(capsule, "used_dltensor"));
    space_.lent.fetch_add(1, std::memory_order_relaxed);
    at::Tensor tensor = at::fromDLPack(managed, [this, managed](void*) {
      space_.dispose({[](const PythonApi&, void* what) {
                        auto* own = static_cast<DLManagedTensor*>(what);
                        own->deleter(own);
                      },
                      managed});
    });
    return dtype.empty() ? tensor : tensor.view(dtype_of(dtype));
  }

  // ---- values

  PyObject* to_python(const at::IValue& value) const {
    if (value.isNone()) return none();
    if (value.isTensor()) return from_tensor(value.toTensor());
    if (value.isBool()) return py_.PyBool_FromLong(value.toBool());
    if (value.isInt()) return number(value.toInt());
    if (value.isDouble()) return checked(py_.PyFloat_FromDouble(value.toDouble()));
    if (value.isComplexDouble()) {
      const auto complex = value.toComplexDouble();
      return checked(py_.PyComplex_FromDoubles(complex.real(), complex.imag()));
    }
    if (value.isString()) return text(value.toStringRef());
    if (value.isDevice()) {
      const Held name(py_, text(value.toDevice().str()));
      return invoke(device_type_, name.get());
    }
    if (value.isTuple()) {
      const auto& elements = value.toTupleRef().elements();
      Held result(py_, py_.PyTuple_New(static_cast<Py_ssize_t>(elements.size())));
      for (std::size_t i = 0; i < elements.size(); ++i)
        py_.PyTuple_SetItem(result.get(), static_cast<Py_ssize_t>(i), to_python(elements[i]));
      return result.release();
    }
    if (value.isList()) {
      const c10::List<at::IValue> list = value.toList();
      Held result(py_, py_.PyList_New(static_cast<Py_ssize_t>(list.size())));
      for (std::size_t i = 0; i < list.size(); ++i)
        py_.PyList_SetItem(result.get(), static_cast<Py_ssize_t>(i), to_python(list.get(i)));
      return result.release();
    }
    if (value.isGenericDict()) {
      Held result(py_, py_.PyDict_New());
      for (const auto& entry : value.toGenericDict()) {
        const Held key(py_, to_python(entry.key()));
        const Held item(py_, to_python(entry.value()));
        check(py_.PyDict_SetItem(result.get(), key.get(), item.get()));
      }
      return result.release();
    }
    throw std::invalid_argument("a value of type " + value.tagKind() + " cannot be handed to Python");
  }

  Held held(PyObject* borrowed) const {
    py_.Py_IncRef(borrowed);
    return {py_, borrowed};
  }

  // All items at once: another thread may change a list or a dict while a tensor in it is converted.
  std::vector<Held> items_of_list(PyObject* list) const {
    std::vector<Held> items;
    for (Py_ssize_t i = 0; i < py_.PyList_Size(list); ++i) items.push_back(held(py_.PyList_GetItem(list, i)));
    return items;
  }
  std::vector<std::pair<Held, Held>> items_of_dict(PyObject* dict) const {
    std::vector<std::pair<Held, Held>> items;
    Py_ssize_t position = 0;
    PyObject *key = nullptr, *item = nullptr;
    while (py_.PyDict_Next(dict, &position, &key, &item)) items.emplace_back(held(key), held(item));
    return items;
  }

  at::IValue to_value(PyObject* object, int depth = 0) {
    if (depth > 100) throw std::invalid_argument("a value is nested more than 100 levels deep");
    if (object == py_._Py_NoneStruct) return {};
    if (is(object, tensor_type_)) return to_tensor(object);
    if (is(object, py_.PyBool_Type)) return py_.PyLong_AsLongLong(object) != 0;
    if (is(object, py_.PyLong_Type)) {
      const long long value = py_.PyLong_AsLongLong(object);
      if (value == -1 && py_.PyErr_Occurred()) raise();
      return static_cast<std::int64_t>(value);
    }
    if (is(object, py_.PyFloat_Type)) return py_.PyFloat_AsDouble(object);
    if (is(object, py_.PyComplex_Type))
      return c10::complex<double>(py_.PyComplex_RealAsDouble(object), py_.PyComplex_ImagAsDouble(object));
    if (is(object, py_.PyUnicode_Type)) return string(object);
    if (is(object, py_.PyBytes_Type)) return bytes(object);
    if (is(object, py_.PyTuple_Type)) {
      std::vector<at::IValue> elements;
      for (Py_ssize_t i = 0; i < py_.PyTuple_Size(object); ++i)
        elements.push_back(to_value(py_.PyTuple_GetItem(object, i), depth + 1));
      return c10::ivalue::Tuple::create(std::move(elements));
    }
    if (is(object, py_.PyList_Type)) {
      std::vector<at::IValue> elements;
      for (const Held& item : items_of_list(object)) elements.push_back(to_value(item.get(), depth + 1));
      return list_of(elements);
    }
    if (is(object, py_.PyDict_Type)) {
      std::vector<std::pair<at::IValue, at::IValue>> entries;
      for (const auto& [key, item] : items_of_dict(object))
        entries.emplace_back(to_value(key.get(), depth + 1), to_value(item.get(), depth + 1));
      return dict_of(entries);
    }
    if (is(object, device_type_)) return c10::Device(string(Held(py_, checked(py_.PyObject_Str(object))).get()));
    const Held type(py_, py_.PyObject_Type(object));
    const Held name(py_, py_.PyObject_GetAttrString(type.get(), "__name__"));
    throw std::invalid_argument("a Python " + (name.get() ? string(name.get()) : "object") +
                                " cannot become an IValue: keep it as an Obj");
  }

  Namespace space_;
  const PythonApi& py_;
  PyObject* globals_ = nullptr;  // of support.py
  PyObject* torch_ = nullptr;
  PyObject* tensor_type_ = nullptr;
  PyObject* device_type_ = nullptr;
  PyObject* export_tensor_ = nullptr;
  PyObject* import_tensor_ = nullptr;
  PyObject* set_grad_enabled_ = nullptr;
  std::atomic<bool> started_{false};
};

// Never destroyed: neither Python with torch nor a namespace can be unloaded, and threads of both still exist when the
// program's own destructors run.
struct Idle {
  std::mutex mutex;
  std::vector<std::shared_ptr<Backend>> backends;
};
Idle& idle() {
  static Idle* kept = new Idle;
  return *kept;
}

}  // namespace

std::vector<std::shared_ptr<Backend>> acquire_in_process(std::size_t n, const std::vector<std::string>& paths) {
  std::vector<std::shared_ptr<Backend>> backends;
  {
    const std::lock_guard<std::mutex> guard(idle().mutex);
    while (backends.size() < n && !idle().backends.empty()) {
      backends.push_back(std::move(idle().backends.back()));
      idle().backends.pop_back();
    }
  }
  try {
    while (backends.size() < n) {
      // One more reference keeps it alive to the end of the process.
      auto* kept = new std::shared_ptr<Backend>(std::make_shared<InProcess>(find_installation()));
      backends.push_back(*kept);
    }
    // `import torch` takes a second or two: in all of them at once.
    std::vector<std::future<void>> starting;
    for (std::size_t i = 0; i < n; ++i)
      starting.push_back(std::async(std::launch::async, [&, i] {
        if (!static_cast<InProcess&>(*backends[i]).started())
          backends[i]->start(static_cast<std::int64_t>(i), paths, at::get_num_threads());
      }));
    for (auto& each : starting) each.wait();
    for (auto& each : starting) each.get();
  } catch (...) {
    release_in_process(backends);
    throw;
  }
  return backends;
}

void release_in_process(const std::vector<std::shared_ptr<Backend>>& backends) {
  const std::lock_guard<std::mutex> guard(idle().mutex);
  for (auto each = backends.rbegin(); each != backends.rend(); ++each)
    if (auto* own = dynamic_cast<InProcess*>(each->get()); own && own->started()) idle().backends.push_back(*each);
}

}  // namespace torch::deploy::detail
