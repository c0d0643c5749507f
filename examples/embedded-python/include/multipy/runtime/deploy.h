// Several Python interpreters in one program, none of which waits for another's lock: the interface of
// torch::deploy (multipy), on a stock CPython and a stock torch.
//
//   InterpreterManager manager(4);                                 // four interpreters
//   Package package = manager.loadPackage("model.pt");             // written by torch.package
//   ReplicatedObj model = package.loadPickle("model", "model.pkl");
//   at::Tensor output = model({torch::ones({1, 10})}).toTensor();  // from any thread
//
// Tensors are handed over as pointers, in both directions, without a copy. An exception that Python raises arrives as a
// PythonError.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <caffe2/serialize/read_adapter_interface.h>
#include <multipy/runtime/environment.h>
#include <multipy/runtime/errors.h>
#include <multipy/runtime/noop_environment.h>

#if __has_include(<torch/csrc/api/include/torch/imethod.h>)
#include <torch/csrc/api/include/torch/imethod.h>
#define EMBEDDED_PYTHON_HAS_IMETHOD 1
#endif

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace torch {
namespace deploy {

namespace detail {
class Backend;      // one interpreter: src/backend.h
class Object;       // a Python object in an interpreter
class PackageFile;  // an open torch.package
struct Pickled;     // a Python object as bytes and shared storages
}  // namespace detail

class Interpreter;
struct InterpreterManager;
struct InterpreterSession;
struct Package;
struct ReplicatedObj;

/// Where interpreters live.
enum class Isolation {
  Namespace,  // in this process, each in a dynamic-linker namespace of its own
  Process,    // each in a worker process; large tensors are passed in shared memory
};

/// A Python object in one interpreter. Usable from any thread.
struct Obj {
  Obj() = default;

  /// Converts the Python object to an IValue; tensors share their memory with Python.
  at::IValue toIValue() const;
  /// Calls it, with Python objects of the same interpreter or with IValues.
  Obj operator()(at::ArrayRef<Obj> args);
  Obj operator()(at::ArrayRef<at::IValue> args);
  Obj callKwargs(std::vector<at::IValue> args, std::unordered_map<std::string, c10::IValue> kwargs);
  Obj callKwargs(std::unordered_map<std::string, c10::IValue> kwargs);
  bool hasattr(const char* attr);
  Obj attr(const char* attr);

 private:
  friend struct InterpreterSession;
  friend struct InterpreterManager;
  friend struct ReplicatedObj;
  friend struct Package;
  Obj(std::shared_ptr<detail::Object> object, std::uint64_t session)
      : object_(std::move(object)), session_(session) {}
  detail::Object& object() const;

  std::shared_ptr<detail::Object> object_;
  std::uint64_t session_ = 0;
};

/// The use of one interpreter, until the session is destroyed.
struct InterpreterSession {
  InterpreterSession(InterpreterSession&&) noexcept = default;
  InterpreterSession& operator=(InterpreterSession&&) = delete;
  InterpreterSession(const InterpreterSession&) = delete;
  ~InterpreterSession();

  /// `from module import name`.
  Obj global(const char* module, const char* name);
  Obj fromIValue(at::IValue value);
  /// Prefer InterpreterManager::createMovable.
  ReplicatedObj createMovable(Obj obj);
  /// The replicated object, in this session's interpreter.
  Obj fromMovable(const ReplicatedObj& obj);
  bool isOwner(const Obj& obj) const { return obj.session_ == id_; }

  /// Of a session that a ReplicatedObj or a Package acquired: that object.
  Obj self;

 private:
  friend class Interpreter;
  friend struct InterpreterManager;
  friend struct Package;
  friend struct ReplicatedObj;
  InterpreterSession(std::shared_ptr<detail::Backend> backend, InterpreterManager* manager);

  std::shared_ptr<detail::Backend> backend_;
  InterpreterManager* manager_;
  std::uint64_t id_;
  std::shared_ptr<detail::PackageFile> package_;
  std::shared_ptr<void> lease_;  // gives the interpreter back to the load balancer
};

/// One interpreter.
class Interpreter {
 public:
  InterpreterSession acquireSession() const;
  Interpreter(Interpreter&&) noexcept = default;
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;
  Interpreter& operator=(Interpreter&&) = delete;

 private:
  friend struct InterpreterManager;
  friend struct ReplicatedObj;
  Interpreter(std::shared_ptr<detail::Backend> backend, InterpreterManager* manager)
      : backend_(std::move(backend)), manager_(manager) {}
  std::shared_ptr<detail::Backend> backend_;
  InterpreterManager* manager_;
};

/// A Python object that every interpreter can use: sent to an interpreter when it is first used there. The storages of
/// its tensors are shared by all interpreters of the process.
struct ReplicatedObj {
  ReplicatedObj() = default;

  /// A session on an interpreter (by default a free one) whose `self` is this object.
  InterpreterSession acquireSession(const Interpreter* onThisInterpreter = nullptr) const;
  /// Calls it on a free interpreter.
  at::IValue operator()(at::ArrayRef<at::IValue> args) const;
  [[nodiscard]] at::IValue callKwargs(
      std::vector<at::IValue> args,
      std::unordered_map<std::string, c10::IValue> kwargs) const;
  [[nodiscard]] at::IValue callKwargs(std::unordered_map<std::string, c10::IValue> kwargs) const;
  [[nodiscard]] bool hasattr(const char* attr) const;
  /// Frees it in one interpreter or in all. The next use sends it again.
  void unload(const Interpreter* onThisInterpreter = nullptr);
  Obj toObj(InterpreterSession* session);

 private:
  friend struct InterpreterManager;
  friend struct InterpreterSession;
  struct Shared;
  explicit ReplicatedObj(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}
  Shared& shared() const;
  std::shared_ptr<Shared> shared_;
};

/// A file written by torch.package, opened once: all interpreters read the file that was opened.
struct Package {
  /// The object that PackageExporter.save_pickle(module, file, …) stored.
  ReplicatedObj loadPickle(const std::string& module, const std::string& file);
  std::string loadText(const std::string& package, const std::string& key);
  std::string loadBinary(const std::string& package, const std::string& key);
  /// A session whose `self` is the torch.package.PackageImporter.
  InterpreterSession acquireSession();
  ReplicatedObj createMovable(Obj obj, InterpreterSession* session);

 private:
  friend struct InterpreterManager;
  Package(std::shared_ptr<detail::PackageFile> file, InterpreterManager* manager)
      : file_(std::move(file)), manager_(manager) {}
  std::shared_ptr<detail::PackageFile> file_;
  InterpreterManager* manager_;
};

/// Counts the users of each interpreter.
struct LoadBalancer {
  explicit LoadBalancer(std::size_t n);
  void setResourceLimit(std::size_t n);
  /// An interpreter without users, or the one with the fewest.
  int acquire();
  void free(int where);

 private:
  struct alignas(64) Users {
    std::atomic<std::uint64_t> count{0};
  };
  std::vector<Users> users_;
  std::atomic<std::size_t> limit_;
};

/// Starts interpreters and hands them out.
struct InterpreterManager {
  /// Without an environment the modules come from the site-packages of the Python that was found when this program was
  /// configured; the variable EMBEDDED_PYTHON names another one.
  ///
  /// Interpreters in this process live as long as it does: a destroyed manager's are given to the next one.
  explicit InterpreterManager(
      std::size_t nInterp = 2,
      std::shared_ptr<Environment> env = std::make_shared<NoopEnvironment>(),
      Isolation isolation = Isolation::Namespace);
  ~InterpreterManager();
  InterpreterManager(const InterpreterManager&) = delete;
  InterpreterManager& operator=(const InterpreterManager&) = delete;
  InterpreterManager& operator=(InterpreterManager&&) = delete;

  /// A free interpreter, or the one with the fewest sessions.
  InterpreterSession acquireOne();
  at::ArrayRef<Interpreter> allInstances() { return instances_; }
  void debugLimitInterpreters(std::size_t n);
  Package loadPackage(const std::string& uri);
  Package loadPackage(std::shared_ptr<caffe2::serialize::ReadAdapterInterface> reader);
  /// Makes `import name` run this source in every interpreter.
  void registerModuleSource(std::string name, std::string src);
  std::size_t countRegisteredModuleSources() const { return moduleSources_; }
  ReplicatedObj createMovable(Obj obj, InterpreterSession* session);

 private:
  friend struct Package;
  friend struct ReplicatedObj;
  ReplicatedObj replicate(detail::Pickled pickled);
  std::vector<Interpreter> instances_;
  LoadBalancer resources_;
  std::size_t moduleSources_ = 0;
};

#ifdef EMBEDDED_PYTHON_HAS_IMETHOD
/// A method of a replicated object, as a torch::IMethod.
class PythonMethodWrapper : public torch::IMethod {
 public:
  PythonMethodWrapper(ReplicatedObj model, std::string methodName)
      : model_(std::move(model)), methodName_(std::move(methodName)) {}
  const std::string& name() const override { return methodName_; }
  c10::IValue operator()(std::vector<c10::IValue> args, const IValueMap& kwargs = IValueMap()) const override;

 private:
  void setArgumentNames(std::vector<std::string>& names) const override;
  ReplicatedObj model_;
  std::string methodName_;
};
#endif

/// For `main`, before anything else: more than eight interpreters in one process need room that the dynamic loader
/// reserves only at the start of a program, so this starts the program again with GLIBC_TUNABLES set. It returns if
/// nothing has to be done.
void reserveInterpreters(std::size_t n, char** argv);

}  // namespace deploy
}  // namespace torch

namespace multipy {
namespace runtime = torch::deploy;
}
