#include "namespace.h"

#include <multipy/runtime/errors.h>

#include <dlfcn.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <ctime>

namespace torch::deploy::detail {

namespace {

constexpr std::size_t kStackSize = 64 << 20;  // the default of a main thread is 8 MB, and torch's imports recurse deeply
constexpr long kCollectAfter = 50'000'000;    // ns until an idle interpreter looks for what was given back

// Waiting by futex: the same in all namespaces, whichever C library created the thread.
void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t value, const timespec* timeout = nullptr) {
  syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAIT_PRIVATE, value, timeout, nullptr, 0);
}

void futex_wake(std::atomic<std::uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

template <typename Function>
void look_up(void* library, const char* name, Function& into) {
  into = reinterpret_cast<Function>(dlsym(library, name));
  if (!into) throw InterpreterError(std::string("libpython has no ") + name + ": it is too old or too new.");
}

// The program's handlers must run in the program's threads: those made while this lives have all signals blocked.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP}) sigdelset(&all, fault);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace

std::string hint_for(const std::string& error) {
  if (error.find("static TLS block") != std::string::npos)
    return "\nhint: the dynamic loader reserves room for thread-local variables at the start of a program: call "
           "reserveInterpreters(n, argv) first in main, or set "
           "GLIBC_TUNABLES=glibc.rtld.nns=16:glibc.rtld.optional_static_tls=65536.";
  if (error.find("no more namespaces") != std::string::npos)
    return "\nhint: glibc has 16 namespaces, of which the program itself uses one: use Isolation::Process "
           "(--isolate process) for more than 15 interpreters.";
  return "";
}

PythonApi::PythonApi(void* library) {
#define FUNCTION(result, name, parameters) look_up(library, #name, name);
  PYTHON_FUNCTIONS(FUNCTION)
#undef FUNCTION
#define OBJECT(name) look_up(library, #name, name);
  PYTHON_OBJECTS(OBJECT)
#undef OBJECT
}

// A thread of the namespace. `state` passes it from the caller to the thread and back.
struct Namespace::Worker {
  enum : std::uint32_t { kIdle, kRequested, kDone };
  Namespace& owner;
  std::atomic<std::uint32_t> state{kIdle};
  const std::function<void()>* job = nullptr;
  std::exception_ptr error;
  const bool first;  // the thread that starts the interpreter

  Worker(Namespace& space, bool is_first) : owner(space), first(is_first) {}

  void run(const std::function<void()>& what) {
    job = &what;
    error = nullptr;
    state.store(kRequested, std::memory_order_release);
    futex_wake(state);
    while (state.load(std::memory_order_acquire) != kDone) futex_wait(state, kRequested);
    state.store(kIdle, std::memory_order_relaxed);
  }
};

Namespace::Namespace(const Installation& installation) : executable_(installation.executable) {
  if (installation.library.empty())
    throw InterpreterError(installation.executable + " has no shared libpython.\nhint: " + installation.advice);
  library_ = dlmopen(LM_ID_NEWLM, installation.library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library_) {
    const char* text = dlerror();
    const std::string error = text ? text : "dlmopen failed";
    throw InterpreterError("cannot load " + installation.library + " into a namespace: " + error + hint_for(error));
  }
  python_ = std::make_unique<PythonApi>(library_);
  Worker* first = take();
  first->run([] {});  // its first job waits until the interpreter runs
  give_back(first);
}

Namespace::~Namespace() = default;

Namespace::Worker* Namespace::take() {
  const std::lock_guard<std::mutex> guard(mutex_);
  if (!idle_.empty()) {
    Worker* worker = idle_.back();
    idle_.pop_back();
    return worker;
  }
  // The functions of the namespace's own C library.
  decltype(&pthread_attr_init) attr_init;
  decltype(&pthread_attr_setstacksize) attr_setstacksize;
  decltype(&pthread_attr_setdetachstate) attr_setdetachstate;
  decltype(&pthread_create) create;
  look_up(library_, "pthread_attr_init", attr_init);
  look_up(library_, "pthread_attr_setstacksize", attr_setstacksize);
  look_up(library_, "pthread_attr_setdetachstate", attr_setdetachstate);
  look_up(library_, "pthread_create", create);

  auto worker = std::make_unique<Worker>(*this, workers_.empty());
  pthread_attr_t attributes;
  attr_init(&attributes);
  attr_setstacksize(&attributes, kStackSize);
  attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  const SignalsBlocked blocked;
  const int failed = create(
      &thread, &attributes,
      [](void* argument) -> void* {
        Worker& self = *static_cast<Worker*>(argument);
        self.owner.serve(self);
        return nullptr;
      },
      worker.get());
  if (failed) throw InterpreterError(std::string("cannot start a thread: ") + std::strerror(failed));
  workers_.push_back(std::move(worker));
  return workers_.back().get();
}

void Namespace::give_back(Worker* worker) {
  const std::lock_guard<std::mutex> guard(mutex_);
  idle_.push_back(worker);  // last in, first out: one caller always meets the same thread
}

void Namespace::serve(Worker& worker) {
  // The code below is the program's, in a thread that the program's C library does not know: it has set no tables for
  // isalpha() and the like. (Those of the namespace's were set by its own pthread_create.)
  if (auto init = reinterpret_cast<void (*)()>(dlsym(RTLD_DEFAULT, "__ctype_init"))) init();
  const PythonApi& py = *python_;
  if (worker.first) {
    py.Py_SetProgramName(py.Py_DecodeLocale(executable_.c_str(), nullptr));
    py.Py_InitializeEx(0);  // 0: the program's signal handlers stay
  } else {
    py.PyGILState_Ensure();
  }
  PyThreadState* thread = py.PyEval_SaveThread();
  for (;;) {
    while (worker.state.load(std::memory_order_acquire) != Worker::kRequested) {
      const bool watches = worker.first && lent.load(std::memory_order_relaxed) > 0;
      const timespec soon{0, kCollectAfter};
      const std::uint32_t now = worker.state.load(std::memory_order_acquire);
      if (now != Worker::kRequested) futex_wait(worker.state, now, watches ? &soon : nullptr);
      if (watches && has_waste_.load(std::memory_order_relaxed) &&
          worker.state.load(std::memory_order_acquire) != Worker::kRequested) {
        py.PyEval_RestoreThread(thread);
        collect();
        thread = py.PyEval_SaveThread();
      }
    }
    py.PyEval_RestoreThread(thread);
    collect();
    try {
      (*worker.job)();
    } catch (...) {
      worker.error = std::current_exception();
    }
    thread = py.PyEval_SaveThread();
    worker.state.store(Worker::kDone, std::memory_order_release);
    futex_wake(worker.state);
  }
}

void Namespace::run(const std::function<void()>& job) {
  Worker* worker = take();
  worker->run(job);
  const std::exception_ptr error = std::move(worker->error);
  worker->error = nullptr;
  give_back(worker);
  if (error) std::rethrow_exception(error);
}

void Namespace::dispose(Waste waste) {
  const std::lock_guard<std::mutex> guard(waste_mutex_);
  waste_.push_back(waste);
  has_waste_.store(true, std::memory_order_relaxed);
}

void Namespace::collect() {
  if (!has_waste_.load(std::memory_order_relaxed)) return;
  std::vector<Waste> taken;
  {
    const std::lock_guard<std::mutex> guard(waste_mutex_);
    taken.swap(waste_);
    has_waste_.store(false, std::memory_order_relaxed);
  }
  for (const Waste& waste : taken) waste.free(*python_, waste.object);
  lent.fetch_sub(static_cast<std::int64_t>(taken.size()), std::memory_order_relaxed);
}

}  // namespace torch::deploy::detail
