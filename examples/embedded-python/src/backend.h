// One interpreter, wherever it lives.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <multipy/runtime/errors.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace torch::deploy::detail {

class Backend;

/// A Python object in an interpreter; the destructor gives it back.
class Object {
 public:
  explicit Object(std::shared_ptr<Backend> home) : backend(std::move(home)) {}
  virtual ~Object() = default;
  const std::shared_ptr<Backend> backend;
};
using ObjectPtr = std::shared_ptr<Object>;

/// An open package. Interpreters open `path` again, so that a file that is replaced later changes nothing.
class PackageFile {
 public:
  explicit PackageFile(const std::string& path);  // throws c10::Error unless torch.package wrote it
  explicit PackageFile(at::Tensor bytes);         // the same
  ~PackageFile();
  PackageFile(const PackageFile&) = delete;
  PackageFile& operator=(const PackageFile&) = delete;

  /// Does something with it; what Python raises names the package.
  template <typename Work>
  auto reading(const Work& work) const {
    try {
      return work();
    } catch (const PythonError& error) {
      throw PythonError(error.type(), name + ": " + error.message(), name + ": " + error.what());
    }
  }

  const std::int64_t key;  // unique in this process
  const std::string name;  // for errors: the path as it was given
  const int descriptor;    // of a package that is a file; else -1
  const at::Tensor bytes;  // of one that is not

 private:
  PackageFile(std::string name, int descriptor, at::Tensor bytes);
};

struct Pickled {
  std::int64_t number = 0;  // of the replicated object, unique in this process
  std::string data;
  std::vector<at::Tensor> storages;  // uint8
  std::vector<std::string> dtypes;
  std::shared_ptr<PackageFile> package;  // where its classes are; may be null
  // An object that cannot be pickled but came from a package is loaded from there in each interpreter.
  std::string module;
  std::string file;
};

struct Arguments {
  std::vector<at::IValue> values;
  std::vector<ObjectPtr> objects;  // either these or the values
  std::unordered_map<std::string, at::IValue> named;
};

/// All functions may be called from any thread. They throw PythonError, and InterpreterError if the interpreter died.
class Backend : public std::enable_shared_from_this<Backend> {
 public:
  virtual ~Backend() = default;
  virtual void start(std::int64_t index, const std::vector<std::string>& paths, int threads) = 0;
  virtual void register_source(const std::string& name, const std::string& source) = 0;
  virtual ObjectPtr global(const std::string& module, const std::string& name) = 0;
  virtual ObjectPtr from_ivalue(const at::IValue& value) = 0;
  virtual at::IValue to_ivalue(const Object& object) = 0;
  virtual ObjectPtr call(const Object& callable, const Arguments& arguments) = 0;
  virtual ObjectPtr attr(const Object& object, const std::string& name) = 0;
  virtual bool hasattr(const Object& object, const std::string& name) = 0;
  virtual ObjectPtr open_package(const std::shared_ptr<PackageFile>& package) = 0;
  virtual Pickled pickle(const Object& object, const std::shared_ptr<PackageFile>& package) = 0;
  virtual ObjectPtr replica(const Pickled& pickled) = 0;
  virtual at::IValue call_replica(const Pickled& pickled, const Arguments& arguments) = 0;
  virtual void unload(std::int64_t number) = 0;
  virtual void flush() = 0;

  std::function<void()> restarted;  // called after a new worker process took the place of one that died
};

/// `n` interpreters of this process that no other manager uses, started and with torch imported.
std::vector<std::shared_ptr<Backend>> acquire_in_process(std::size_t n, const std::vector<std::string>& paths);
void release_in_process(const std::vector<std::shared_ptr<Backend>>& backends);

/// `n` worker processes.
std::vector<std::shared_ptr<Backend>> start_processes(std::size_t n, const std::vector<std::string>& paths);

}  // namespace torch::deploy::detail
