// Commands on stdin, one answer a line on `out`; and, where it is asked for, a process of its own for each model.
//
// A model that crashes, hangs, runs out of memory or changes global state (the random numbers' seed, the gradient mode,
// operators registered by a library) must neither help nor harm the next. A new process would cost each the start of
// libtorch; a forked one starts with it as it was before any model was loaded. One that a model has not changed may be
// given another (unchanged.h).
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <stdexcept>
#include <string>

#ifdef __linux__
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>
#include <cerrno>
#include <csignal>
#include <fstream>
#endif

#include "json.h"

class Serving {
 public:
  // `answer` is given a command and returns the event that answers it; `error` makes an event of an exception.
  using Answer = std::function<std::string(const std::string&)>;
  using Error = std::function<std::string(const std::exception&)>;

  using Begin = std::function<void(JsonObject&)>;

  // `begin` is called in each forked process before its first command, and may add to the event that it begins with.
  Serving(FILE* out, Answer answer, Error error, Begin begin)
      : out_(out), answer_(std::move(answer)), error_(std::move(error)), begin_(std::move(begin)) {}

  int run() {
    const int status = answer_all();
    end_what_is_left();
    return status;
  }

 private:
  int answer_all() {
    dies_with_its_parent();
    for (std::string line; std::getline(std::cin, line);) {
      if (line == "end" && forked_) return 0;
      if (line == "leave" && forked_) leave();
      if (line == "fork" && !forked_) {
        fork_one();
        continue;
      }
      if (line.compare(0, 5, "twin ") == 0 && !forked_ && !forks_) {
        twin(line);
        continue;
      }
      if (forks_ && line.compare(0, 5, "mark ") != 0) { // of one that ended before it could read it
        send(error_(std::runtime_error("a forked process was asked")));
        continue;
      }
      try {
        send(answer_(line));
      } catch (const std::exception& error) {
        send(error_(error));
      }
    }
    return 0;
  }

  void send(const std::string& event) {
    leave_if_copied();
    std::fprintf(out_, "%s\n", event.c_str());
    std::fflush(out_);
  }

#ifdef __linux__
  void dies_with_its_parent() {
    process_ = getpid();
    prctl(PR_SET_PDEATHSIG, SIGKILL); // a model that never returns must not outlive a verify that was killed
    prctl(PR_SET_CHILD_SUBREAPER, 1);
  }

  // A model that forks and returns in both processes: only one of them answers.
  void leave_if_copied() const {
    if (getpid() != process_) _exit(0);
  }

  // What a model started and did not end: this process has become the parent of all that, whatever its session.
  static void end_what_is_left() {
    for (int round = 0; round < 2000 && waitpid(-1, nullptr, WNOHANG) >= 0; ++round) { // there are children
      DIR* const processes = opendir("/proc");
      if (processes == nullptr) return;
      while (const dirent* const entry = readdir(processes)) {
        if (entry->d_name[0] < '1' || entry->d_name[0] > '9') continue;
        std::ifstream file(std::string("/proc/") + entry->d_name + "/stat");
        std::string text;
        std::getline(file, text, '\0');
        const size_t name_end = text.rfind(") "); // a name may contain anything
        if (name_end == std::string::npos || name_end + 4 >= text.size()) continue;
        if (std::atol(text.c_str() + name_end + 4) == static_cast<long>(getpid())) kill(static_cast<pid_t>(std::atol(entry->d_name)), SIGKILL);
      }
      closedir(processes);
      usleep(1000);
    }
  }

  // A forked process has the thread that forked alone: what others held or were about to do would be lost.
  static int threads() {
    DIR* const tasks = opendir("/proc/self/task");
    if (tasks == nullptr) return -1;
    int count = 0;
    while (const dirent* const entry = readdir(tasks)) count += entry->d_name[0] != '.';
    closedir(tasks);
    return count;
  }

  // At once: libtorch takes a tenth of a second to take itself down.
  [[noreturn]] static void leave() {
    std::cout.flush();
    std::fflush(nullptr);
    end_what_is_left();
    _exit(0);
  }

  // Memory in huge pages is shared with a forked process in a fraction of the time: the heap is 15,000 pages, or 28 huge
  // ones. Only what is there already is put into them, so that a model's own memory is as it is in any program; and not
  // before the twins are made, because huge pages that two processes write to become small ones again. That takes as long
  // as a few forks save, and small models share processes.
  void share_heap_cheaply() {
    const int worth_it = 8; // forks
    if (++forks_made_ != worth_it) return;
    const int collapse = 25; // MADV_COLLAPSE, since Linux 6.1; an older one refuses it
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
      if (line.find("[heap]") == std::string::npos) continue;
      char* end = nullptr;
      const size_t huge = size_t(1) << 21;
      const size_t begin = (std::strtoull(line.c_str(), &end, 16) + huge - 1) / huge * huge;
      const size_t stop = std::strtoull(end + 1, nullptr, 16) / huge * huge;
      if (begin < stop) madvise(reinterpret_cast<void*>(begin), stop - begin, collapse);
    }
  }

  // A second process like this one, with pipes of its own, for a fraction of what another start costs: `twin PROCESS IN
  // OUT ERR`, file descriptors of the parent. It is a child of that, which waits for its end as for this one's.
  void twin(const std::string& line) {
    std::string problem = "this machine's processes have no twins";
#if defined(__x86_64__) || defined(__aarch64__)
    long parent = 0;
    int numbers[3] = {0, 0, 0}, files[3] = {-1, -1, -1};
    problem = "twin PROCESS IN OUT ERR";
    if (std::sscanf(line.c_str(), "twin %ld %d %d %d", &parent, &numbers[0], &numbers[1], &numbers[2]) == 4) {
      problem = threads() != 1 ? "this process has several threads" : parent != getppid() ? "that is not the parent" : "";
    }
    for (int i = 0; i < 3 && problem.empty(); ++i) {
      const std::string path = "/proc/" + std::to_string(parent) + "/fd/" + std::to_string(numbers[i]);
      files[i] = open(path.c_str(), (i == 0 ? O_RDONLY : O_WRONLY) | O_CLOEXEC);
      if (files[i] < 0) problem = path + ": " + std::strerror(errno);
    }
    if (problem.empty()) {
      std::cout.flush();
      std::fflush(nullptr);
      const long child = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, nullptr, nullptr, nullptr, nullptr);
      if (child == 0) {
        dies_with_its_parent();
        if (getppid() != parent) _exit(0);
        setsid();
        const int own[4] = {0, fileno(out_), 2, 1};
        for (int i = 0; i < 4; ++i) {
          if (dup2(files[i < 3 ? i : 2], own[i]) < 0) _exit(1);
        }
        for (const int file : files) close(file);
        return;
      }
      if (child > 0) {
        send(JsonObject().add("event", "\"twin\"").add("process", json_number(static_cast<long long>(child))).text());
      } else {
        problem = std::string("clone: ") + std::strerror(errno);
      }
    }
    for (const int file : files) {
      if (file >= 0) close(file);
    }
#endif
    if (!problem.empty()) send(error_(std::runtime_error(problem)));
  }

  // The child answers from now on; this process waits for its end, and says how that was.
  void fork_one() {
    if (threads() != 1) {
      send(error_(std::runtime_error("this process has several threads and cannot be forked")));
      return;
    }
    share_heap_cheaply();
    std::cout.flush();
    std::fflush(nullptr);
    const pid_t parent = getpid();
    const pid_t child = fork();
    if (child < 0) {
      send(error_(std::runtime_error(std::string("fork: ") + std::strerror(errno))));
      return;
    }
    if (child == 0) {
      forked_ = true;
      forks_ = false;
      dies_with_its_parent();
      if (getppid() != parent) _exit(0);
      setsid(); // what a model sends to its process group reaches nobody else
      JsonObject event;
      event.add("event", "\"forked\"").add("process", json_number(static_cast<long long>(getpid())));
      begin_(event);
      send(event.text());
      return;
    }
    forks_ = true;
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    end_what_is_left();
    for (const int file : {0, fileno(out_)}) { // the model shared them
      fcntl(file, F_SETFL, fcntl(file, F_GETFL) & ~O_NONBLOCK);
    }
    const long long code = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
    send(JsonObject().add("event", "\"ended\"").add("status", json_number(code)).text());
  }
#else
  static void dies_with_its_parent() {}

  static void leave_if_copied() {}

  static void end_what_is_left() {}

  static void leave() {}

  void fork_one() {
    send(error_(std::runtime_error("this system's processes are not forked")));
  }

  void twin(const std::string&) {
    fork_one();
  }
#endif

  FILE* out_;
  Answer answer_;
  Error error_;
  Begin begin_;
#ifdef __linux__
  pid_t process_ = 0;
  int forks_made_ = 0;
#endif
  bool forks_ = false; // processes have been forked from this one
  bool forked_ = false; // this one has been forked
};
