#include "workers.h"

#include <future>

namespace {

// The threads are not joined, because a model may be dropped by one of its own. The program's end waits for them, so that no
// process and no directory is left.
class Live {
 public:
  Live() { count(1); }
  ~Live() { count(-1); }

 private:
  struct All {
    std::mutex lock;
    std::condition_variable changed;
    int count = 0;
    ~All() {
      std::unique_lock<std::mutex> held(lock);
      changed.wait_for(held, std::chrono::seconds(10), [this] { return count == 0; });
    }
  };
  static void count(int change) {
    static All all;
    const std::lock_guard<std::mutex> held(all.lock);
    all.count += change;
    all.changed.notify_all();
  }
};

// Of large models.
constexpr std::chrono::seconds time_to_load{600};

}  // namespace

struct Workers::State {
  HandlerFiles files;
  int most = 1;
  std::chrono::seconds time_limit{30};

  std::mutex lock;
  std::condition_variable changed;
  std::deque<Job> jobs;
  int threads = 0;
  int busy = 0;  // of the threads; the others wait for a job, or will in a moment
  bool closing = false;
};

namespace {

std::unique_ptr<Process> started(const HandlerFiles& files) {
  try {
    return std::make_unique<Process>(files, std::chrono::steady_clock::now() + time_to_load);
  } catch (const ProcessDied& error) {
    throw RequestError(500, std::string(error.what()) + " while it loaded");
  } catch (const TooLate&) {
    throw RequestError(500, "the handler did not load in time");
  }
}

// What a process answers, in `process`: the same, or another where it was not alive. It may end while it is being asked; if it
// had not read the request by then, a new one is asked, once.
std::string answer_of(std::unique_ptr<Process>& process, const HandlerFiles& files, const std::string& frame, Deadline deadline) {
  for (bool again = false;; again = true) {
    if (process && !process->alive()) process.reset();
    if (!process) process = started(files);
    try {
      return process->ask(frame, deadline);
    } catch (const ProcessDied& error) {
      if (error.read || again) throw;
    }
  }
}

}  // namespace

Workers::Workers(HandlerFiles files, int most, std::chrono::seconds time_limit) : state_(std::make_shared<State>()) {
  state_->files = std::move(files);
  state_->most = most;
  state_->time_limit = time_limit;
  std::promise<Signature> loaded;
  auto result = loaded.get_future();
  state_->threads = 1;
  // A process ends with the thread that has started it.
  std::thread([shared = state_, loaded = std::move(loaded)]() mutable {
    const Live live;
    const std::shared_ptr<State> state = std::move(shared);
    std::unique_ptr<Process> process;
    try {
      process = started(state->files);
      loaded.set_value(process->signature());
    } catch (...) {
      loaded.set_exception(std::current_exception());
      return;
    }
    work(*state, std::move(process));
  }).detach();
  signature_ = result.get();
}

Workers::~Workers() {
  const std::lock_guard<std::mutex> held(state_->lock);
  state_->closing = true;
  state_->changed.notify_all();
}

void Workers::ask(std::string frame, Done done) {
  const std::lock_guard<std::mutex> held(state_->lock);
  state_->jobs.push_back({std::move(frame), std::move(done), std::chrono::steady_clock::now() + state_->time_limit});
  if (static_cast<std::size_t>(state_->threads - state_->busy) < state_->jobs.size() && state_->threads < state_->most) {
    ++state_->threads;
    std::thread([shared = state_]() mutable {
      const Live live;
      const std::shared_ptr<State> state = std::move(shared);
      work(*state, nullptr);
    }).detach();
  }
  state_->changed.notify_one();
}

void Workers::work(State& state, std::unique_ptr<Process> process) {
  std::unique_lock<std::mutex> held(state.lock);
  for (;;) {
    state.changed.wait(held, [&] { return state.closing || !state.jobs.empty(); });
    if (state.jobs.empty()) break;
    ++state.busy;
    Job job = std::move(state.jobs.front());
    state.jobs.pop_front();
    held.unlock();

    std::string answer;
    std::exception_ptr failed;
    bool died = false;
    try {
      if (std::chrono::steady_clock::now() >= job.deadline) throw TooLate();
      answer = answer_of(process, state.files, job.frame, job.deadline);
    } catch (const ProcessDied& error) {
      died = true;
      failed = std::make_exception_ptr(RequestError(500, std::string(error.what()) + "; a new one is started"));
    } catch (const TooLate&) {
      died = process != nullptr && !process->alive();
      failed = std::make_exception_ptr(RequestError(408, "the handler did not answer in time"));
    } catch (...) {
      failed = std::current_exception();
    }
    job.done(std::move(answer), failed);
    job = Job();  // it may hold the last reference to the model
    if (died) {
      process.reset();
      try {
        process = started(state.files);
      } catch (const std::exception&) {
        // The next request tries again, and gets the error.
      }
    }
    held.lock();
    --state.busy;
  }
}
