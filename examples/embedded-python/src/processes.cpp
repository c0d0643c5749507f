// Interpreters in worker processes: the Python that was found runs support.py and worker.py.
#include "backend.h"
#include "configuration.h"
#include "wire.h"

#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <multipy/runtime/errors.h>

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <future>
#include <mutex>
#include <thread>
#include <unordered_set>

extern char** environ;

namespace torch::deploy::detail {

namespace {

constexpr int kWorkerDescriptor = 3;
constexpr auto kPatience = std::chrono::seconds(5);  // for a worker to end by itself

class WorkerObject : public Object {
 public:
  WorkerObject(std::shared_ptr<Backend> home, std::int64_t id, std::uint64_t life)
      : Object(std::move(home)), handle(id), generation(life) {}
  ~WorkerObject() override;
  const std::int64_t handle;
  const std::uint64_t generation;  // of the worker: a new one knows nothing of the old one's objects
};

/// A running worker.
class Worker {
 public:
  explicit Worker(const std::string& python) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
      throw InterpreterError(std::string("cannot make a socket: ") + std::strerror(errno));
    // A worker must not inherit a descriptor that dup2 would have to close first: keep clear of its number.
    const int given = fcntl(ends[1], F_DUPFD_CLOEXEC, kWorkerDescriptor + 1);
    close(ends[1]);
    connection = std::make_unique<Connection>(ends[0]);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, given, kWorkerDescriptor);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    const std::string source = std::string(kSupportSource) + "\n" + kWorkerSource;
    const char* arguments[] = {python.c_str(), "-c", source.c_str(), nullptr};
    const int failed =
        posix_spawn(&process, python.c_str(), &actions, &attributes, const_cast<char**>(arguments), environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    close(given);
    if (failed) throw InterpreterError("cannot start " + python + ": " + std::strerror(failed));
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// Ends it: it notices that the connection is closed. Returns how it ended.
  std::string end() {
    connection.reset();
    int status = 0;
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (waitpid(process, &status, WNOHANG) == 0) {
      if (std::chrono::steady_clock::now() > deadline) kill(process, SIGKILL);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ended = true;
    if (WIFSIGNALED(status)) return "killed by signal " + std::to_string(WTERMSIG(status));
    return "exit status " + std::to_string(WEXITSTATUS(status));
  }
  ~Worker() {
    if (!ended && process > 0) end();
  }

  std::unique_ptr<Connection> connection;
  pid_t process = -1;
  bool ended = false;
};

class InWorker : public Backend {
 public:
  explicit InWorker(std::string python) : python_(std::move(python)) {}

  void start(std::int64_t index, const std::vector<std::string>& paths, int threads) override {
    index_ = index;
    paths_ = paths;
    threads_ = threads;
    const std::lock_guard<std::recursive_mutex> guard(mutex_);
    launch();
  }

  void register_source(const std::string& name, const std::string& source) override {
    const std::lock_guard<std::recursive_mutex> guard(mutex_);
    sources_.emplace_back(name, source);
    request("source", [&](Message& message) { message.text(name).text(source); });
  }

  ObjectPtr global(const std::string& module, const std::string& name) override {
    return object("global", [&](Message& message) { message.text(module).text(name); });
  }

  ObjectPtr from_ivalue(const at::IValue& value) override {
    return object("keep", [&](Message& message) { message.value(value); });
  }

  at::IValue to_ivalue(const Object& object) override {
    return value("value", [&](Message& message) { put(message, object); });
  }

  ObjectPtr call(const Object& callable, const Arguments& arguments) override {
    return object("call", [&](Message& message) {
      put(message, callable);
      put(message, arguments);
    });
  }

  ObjectPtr attr(const Object& of, const std::string& name) override {
    return object("attr", [&](Message& message) {
      put(message, of);
      message.text(name);
    });
  }

  bool hasattr(const Object& of, const std::string& name) override {
    return value("hasattr", [&](Message& message) {
             put(message, of);
             message.text(name);
           }).toBool();
  }

  ObjectPtr open_package(const std::shared_ptr<PackageFile>& package) override {
    return opened(*package);
  }

  Pickled pickle(const Object& of, const std::shared_ptr<PackageFile>& package) override {
    const std::lock_guard<std::recursive_mutex> guard(mutex_);
    request("pickle", [&](Message& message) {
      package ? message.integer(package->key) : message.none();
      put(message, of);
    });
    const at::IValue answer = worker_->connection->value();
    const auto& parts = answer.toTupleRef().elements();
    Pickled result;
    result.data = parts[0].toStringRef();
    for (const at::IValue& each : parts[1].toListRef()) result.storages.push_back(each.toTensor());
    for (const at::IValue& each : parts[2].toListRef()) result.dtypes.push_back(each.toStringRef());
    result.package = package;
    return result;
  }

  ObjectPtr replica(const Pickled& pickled) override {
    const std::lock_guard<std::recursive_mutex> guard(mutex_);
    send_replica(pickled);
    return object("replica", [&](Message& message) { message.integer(pickled.number); });
  }

  at::IValue call_replica(const Pickled& pickled, const Arguments& arguments) override {
    const std::lock_guard<std::recursive_mutex> guard(mutex_);
    send_replica(pickled);
    return value("call_replica", [&](Message& message) {
      message.integer(pickled.number);
      put(message, arguments);
    });
  }

  void unload(std::int64_t number) override {
    const std::lock_guard<std::recursive_mutex> guard(mutex_);
    if (replicas_.erase(number)) request("unload", [&](Message& message) { message.integer(number); });
  }

  void flush() override {
    request("flush", [](Message&) {});
  }

  void forget(std::int64_t handle, std::uint64_t generation) {
    const std::lock_guard<std::mutex> guard(forgotten_mutex_);
    if (generation == generation_) forgotten_.push_back(handle);
  }

 private:
  void launch() {
    worker_.reset();
    {
      const std::lock_guard<std::mutex> guard(forgotten_mutex_);
      ++generation_;
      forgotten_.clear();
    }
    replicas_.clear();
    worker_ = std::make_unique<Worker>(python_);
    request("start", [&](Message& message) {
      message.integer(index_).list(paths_.size());
      for (const std::string& path : paths_) message.text(path);
      message.integer(threads_);
    });
    for (const auto& [name, source] : sources_)
      request("source", [&, &name = name, &source = source](Message& message) { message.text(name).text(source); });
    if (restarted && generation_ > 1) restarted();
  }

  /// Sends a request and reads the answer up to its value. Throws PythonError, and InterpreterError if the worker died.
  template <typename Fill>
  void request(const char* operation, const Fill& fill) {
    const std::lock_guard<std::recursive_mutex> guard(mutex_);
    if (!worker_) launch();
    Connection& connection = *worker_->connection;
    Message message(connection);
    message.text(operation).boolean(c10::GradMode::is_enabled());
    {
      const std::lock_guard<std::mutex> inner(forgotten_mutex_);
      message.list(forgotten_.size());
      for (const std::int64_t handle : forgotten_) message.integer(handle);
      forgotten_.clear();
    }
    try {
      fill(message);
    } catch (...) {
      connection.cancel(message);
      throw;
    }
    try {
      connection.send(message);
      connection.receive();
      if (connection.tag() == 'r') return;
    } catch (const ConnectionLost&) {
      const std::string name = "worker process " + std::to_string(worker_->process);
      const std::string how = worker_->end();
      worker_.reset();
      if (std::strcmp(operation, "start") == 0) throw InterpreterError(name + " did not start: " + how);
      launch();
      throw InterpreterError(name + " died (" + how + "); a new one was started, and this call has no answer.");
    }
    std::string parts[3];
    for (std::string& part : parts) {
      connection.tag();
      part = connection.text();
    }
    throw PythonError(parts[0], parts[1], parts[2]);
  }

  template <typename Fill>
  at::IValue value(const char* operation, const Fill& fill) {
    const std::lock_guard<std::recursive_mutex> guard(mutex_);
    request(operation, fill);
    return worker_->connection->value();
  }

  template <typename Fill>
  ObjectPtr object(const char* operation, const Fill& fill) {
    const std::lock_guard<std::recursive_mutex> guard(mutex_);
    request(operation, fill);
    worker_->connection->tag();
    return std::make_shared<WorkerObject>(shared_from_this(), worker_->connection->integer(), generation_);
  }

  void put(Message& message, const Object& object) const {
    if (object.backend.get() != this)
      throw InterpreterError("an object of another interpreter was used: convert it with toIValue or createMovable.");
    const auto& own = static_cast<const WorkerObject&>(object);
    if (own.generation != generation_)
      throw InterpreterError("an object was lost because its worker process died: create it again.");
    message.object(own.handle);
  }

  void put(Message& message, const Arguments& arguments) const {
    message.tuple(arguments.values.size() + arguments.objects.size());
    for (const at::IValue& each : arguments.values) message.value(each);
    for (const ObjectPtr& each : arguments.objects) put(message, *each);
    message.dict(arguments.named.size());
    for (const auto& [name, each] : arguments.named) message.text(name).value(each);
  }

  void put(Message& message, const PackageFile& package) const {
    message.integer(package.key);
    package.bytes.defined() ? message.tensor(package.bytes) : message.file(package.descriptor);
  }

  ObjectPtr opened(const PackageFile& package) {
    return package.reading([&] { return object("package", [&](Message& message) { put(message, package); }); });
  }

  void send_replica(const Pickled& pickled) {
    if (replicas_.count(pickled.number)) return;
    if (pickled.package) opened(*pickled.package);
    const auto load = [&] {
      request("load", [&](Message& message) {
        message.integer(pickled.number);
        pickled.package ? message.integer(pickled.package->key) : message.none();
        message.text(pickled.module).text(pickled.file).bytes(pickled.data).list(pickled.storages.size());
        for (const at::Tensor& each : pickled.storages) message.tensor(each);
        message.list(pickled.dtypes.size());
        for (const std::string& each : pickled.dtypes) message.text(each);
      });
    };
    pickled.package ? pickled.package->reading(load) : load();
    replicas_.insert(pickled.number);
  }

  const std::string python_;
  std::int64_t index_ = 0;
  std::vector<std::string> paths_;
  int threads_ = 1;
  std::vector<std::pair<std::string, std::string>> sources_;
  // A restart calls the environment, which uses this interpreter.
  std::recursive_mutex mutex_;
  std::unique_ptr<Worker> worker_;
  std::unordered_set<std::int64_t> replicas_;
  std::mutex forgotten_mutex_;
  std::uint64_t generation_ = 0;
  std::vector<std::int64_t> forgotten_;
};

WorkerObject::~WorkerObject() { static_cast<InWorker&>(*backend).forget(handle, generation); }

}  // namespace

std::vector<std::shared_ptr<Backend>> start_processes(std::size_t n, const std::vector<std::string>& paths) {
  const std::string python = find_installation().executable;
  std::vector<std::shared_ptr<Backend>> backends;
  for (std::size_t i = 0; i < n; ++i) backends.push_back(std::make_shared<InWorker>(python));
  std::vector<std::future<void>> starting;
  for (std::size_t i = 0; i < n; ++i)
    starting.push_back(std::async(std::launch::async, [&, i] {
      backends[i]->start(static_cast<std::int64_t>(i), paths, at::get_num_threads());
    }));
  for (auto& each : starting) each.wait();
  for (auto& each : starting) each.get();
  return backends;
}

}  // namespace torch::deploy::detail
