// A Python interpreter in a dynamic-linker namespace: its own C library, libpython and, later, libtorch.
#pragma once

#include "python_api.h"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace torch::deploy::detail {

/// The interpreter to start, from configure time or from the variable EMBEDDED_PYTHON.
struct Installation {
  std::string executable;  // tells Python where its standard library and its site-packages are
  std::string library;     // libpython3.X.so; empty if there is none
  std::string advice;      // how to get it
};

/// Where glibc would let a namespace down: the hint for a message of the dynamic loader, or "".
std::string hint_for(const std::string& loader_error);

/// Everything Python runs in threads that the namespace's own C library created, so that its thread-specific data,
/// its locale tables and its exit handlers belong together. A thread of the program hands its work over and waits.
class Namespace {
 public:
  /// Loads libpython and starts the interpreter. Throws InterpreterError.
  explicit Namespace(const Installation& installation);
  Namespace(const Namespace&) = delete;
  Namespace& operator=(const Namespace&) = delete;
  ~Namespace();  // of one that could not be started; the others live as long as the process

  /// Runs `job` in a thread of the namespace that holds the interpreter's lock, and returns when it is done. Its
  /// exception is thrown here. Jobs of several callers overlap where Python releases the lock.
  void run(const std::function<void()>& job);

  /// Gives something back to the interpreter; called in any thread, at any time. `free` runs soon in one of the
  /// namespace's threads, with the lock.
  struct Waste {
    void (*free)(const PythonApi&, void*);
    void* object;
  };
  void dispose(Waste waste);
  /// The number of things in the program that will be given back.
  std::atomic<std::int64_t> lent{0};

  const PythonApi& python() const { return *python_; }

 private:
  struct Worker;
  Worker* take();
  void give_back(Worker* worker);
  void serve(Worker& worker);
  void collect();

  void* library_;
  std::unique_ptr<PythonApi> python_;
  std::string executable_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Worker*> idle_;
  std::mutex waste_mutex_;
  std::vector<Waste> waste_;
  std::atomic<bool> has_waste_{false};
};

}  // namespace torch::deploy::detail
