#include "process.h"

#include <ATen/Parallel.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <torch/csrc/jit/frontend/script_type_parser.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "worker.h"

extern char** environ;

namespace {

// Both ends of a socket, of which the other is the child's.
pid_t spawn(int& own_end) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) throw RequestError(503, std::string("no process can be started for the handler: ") + std::strerror(errno));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  int child_end = ends[1];
  if (child_end == worker_socket) {  // dup2 onto itself would leave the flag that closes it
    child_end = fcntl(ends[1], F_DUPFD_CLOEXEC, worker_socket + 1);
    close(ends[1]);
  }
  posix_spawn_file_actions_adddup2(&actions, child_end, worker_socket);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);  // its own children end with it
  char name[] = "handler";
  std::string argument = worker_argument;
  char* const words[] = {name, argument.data(), nullptr};
  pid_t pid = -1;
  const int failed = posix_spawn(&pid, "/proc/self/exe", &actions, &attributes, words, environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  close(child_end);
  if (failed != 0) {
    close(ends[0]);
    throw RequestError(503, std::string("no process can be started for the handler: ") + std::strerror(failed));
  }
  own_end = ends[0];
  return pid;
}

std::vector<Port> ports_of(Reader& in) {
  std::vector<Port> ports;
  for (std::uint64_t left = in.number(); left > 0; --left) {
    Port port;
    port.name = in.text();
    const std::string type = in.text();
    port.required = in.number() != 0;
    try {
      if (!type.empty()) port.type = torch::jit::ScriptTypeParser().parseType(type);
    } catch (const std::exception&) {
      // A type of the model's own: the handler checks it.
    }
    ports.push_back(std::move(port));
  }
  return ports;
}

}  // namespace

Process::Process(const HandlerFiles& files, Deadline deadline) {
  pid_ = spawn(socket_);
  try {
    Writer load(frame::load);
    load.number(static_cast<std::uint64_t>(at::get_num_threads())).text(files.library).text(files.directory);
    load.text(files.manifest.model_name).text(files.manifest.model_version).text(files.manifest.serialized_file).text(files.manifest.handler);
    const std::string answer = ask(load.bytes(), deadline);
    Reader in(answer);
    signature_.inputs = ports_of(in);
    signature_.outputs = ports_of(in);
  } catch (...) {
    end(/*at_once=*/true);
    throw;
  }
}

Process::~Process() { end(/*at_once=*/false); }

bool Process::alive() const {
  if (pid_ < 0) return false;
  pollfd socket{socket_, POLLIN | POLLRDHUP, 0};
  return poll(&socket, 1, 0) == 0;  // it sends nothing unasked
}

std::string Process::ask(const std::string& request, Deadline deadline) {
  std::string answer;
  try {
    send_frame(socket_, request, deadline);
    answer = receive_frame(socket_, deadline);
  } catch (const TooLate&) {
    end(/*at_once=*/true);
    throw;
  } catch (const NotRead&) {
    throw ProcessDied(end(/*at_once=*/false), /*read=*/false);
  } catch (const WireError&) {
    throw ProcessDied(end(/*at_once=*/false), /*read=*/true);
  }
  Reader in(answer);
  if (in.kind == frame::failed) {
    const int status = static_cast<int>(in.number());
    throw RequestError(status >= 400 && status <= 599 ? status : 500, in.text());
  }
  return answer;
}

// Ends and reaps the process, and says how it ended.
std::string Process::end(bool at_once) {
  if (pid_ < 0) return "";
  close(socket_);
  int status = 0;
  bool reaped = false;
  const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (!at_once && !reaped && std::chrono::steady_clock::now() < patience) {
    reaped = waitpid(pid_, &status, WNOHANG) == pid_;
    if (!reaped) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  kill(-pid_, SIGKILL);  // it, and what it has started
  if (!reaped) waitpid(pid_, &status, 0);
  pid_ = -1;
  socket_ = -1;
  if (WIFSIGNALED(status)) return std::string("the handler's process was ended by signal ") + std::to_string(WTERMSIG(status)) + " (" + strsignal(WTERMSIG(status)) + ")";
  return "the handler's process ended with status " + std::to_string(WEXITSTATUS(status));
}
