// The processes of one handler, and the requests that wait for them. Each process belongs to a thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "process.h"

class Workers {
 public:
  // Called from a thread of this object with the answer's frame, or with what went wrong.
  using Done = std::function<void(std::string, std::exception_ptr)>;

  // Starts the first process and waits until it has loaded. Throws RequestError.
  Workers(HandlerFiles files, int most, std::chrono::seconds time_limit);
  // Lets the processes finish what was asked of them.
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  const Signature& signature() const { return signature_; }

  // More processes are started, up to the most, while requests wait.
  void ask(std::string frame, Done done);

 private:
  struct Job {
    std::string frame;
    Done done;
    Deadline deadline;
  };
  struct State;

  static void work(State& state, std::unique_ptr<Process> process);

  std::shared_ptr<State> state_;
  Signature signature_;
};
